"""A step of a `WeightOptimizer` that some of the numbers do not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from equipoise.parts.descending import WeightOptimizer
    from equipoise.state import Stateful


def descend_where(
    optimizer: WeightOptimizer,
    owner: Stateful,
    numbers: Tensor,
    gradient: Tensor,
    moving: Tensor,
) -> Tensor:
    """One step of the numbers that move; the others keep value, moments and step count.

    Args:
        optimizer: What descends.
        owner: The balancer that holds its state.
        numbers: ``[T]`` what is optimised.
        gradient: ``[T]``.
        moving: ``[T]`` booleans.

    Returns:
        ``[T]`` the new numbers.
    """
    names = ("exp_avg", "exp_avg_sq", "optimizer_steps") if optimizer.rule == "adam" else ()
    before = {name: owner.get_buffer(name).clone() for name in names}
    descended = optimizer.descend(owner, numbers, gradient)
    for name, kept in before.items():
        buffer = owner.get_buffer(name)
        buffer.copy_(torch.where(moving, buffer, kept))
    return torch.where(moving, descended, numbers)
