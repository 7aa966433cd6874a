"""First-value scaling: each loss divided by its first value."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames
from equipoise.weighting.base import Weighting


class FirstValue(Weighting):
    r"""The folk recipe: every loss starts at 1, ``w_i = 1 / |L_i(0)|``, and stays so scaled.

    With priorities every loss starts at its priority, ``w_i = p_i / |L_i(0)|``.

    Args:
        losses: How many losses there are, or their unique names.
        options: See `Balancer`.

    Example:
        >>> FirstValue(2).weigh(torch.tensor([4.0, 0.5]))
        tensor([0.2500, 2.0000])

    A loss that starts at exactly zero keeps weight 1 until it has a value.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    first: Tensor

    def __init__(self, losses: LossNames, **options: Unpack[BalancerOptions]) -> None:
        super().__init__(losses, **options)
        self.state("first", torch.zeros(len(self.names)))

    def _weigh(self, values: Tensor) -> Tensor:
        # Values come multiplied by priorities, which must not be divided out again with the rest.
        # A priority of zero has made a zero of the value, and leaves nothing to divide by.
        first = torch.where(self.priorities == 0, 0.0, values / self.priorities).abs()
        self.first = torch.where(self.first == 0, first, self.first)
        return torch.where(self.first == 0, 1.0, 1 / self.first)
