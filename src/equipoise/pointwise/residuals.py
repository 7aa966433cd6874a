"""What a user passes as residuals and as their index, read and refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from equipoise.losses import plain

Index: TypeAlias = Tensor | Sequence[int]


def flat(residuals: Tensor) -> Tensor:
    """One residual per point.

    Args:
        residuals: ``[N]`` or ``[N, 1]``.

    Returns:
        ``[N]``.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it has another shape, or no entry.
    """
    if not isinstance(residuals, Tensor):
        msg = f"`residuals` is a {type(residuals).__name__}; pass a tensor, one residual per point."
        raise TypeError(msg)
    column = residuals.ndim == 2 and residuals.shape[1] == 1
    if residuals.ndim != 1 and not column:
        msg = (
            f"`residuals` has shape {list(residuals.shape)}; it must be [N] or [N, 1], one per "
            "point. For several equations make one module for each."
        )
        raise ValueError(msg)
    if residuals.numel() == 0:
        msg = "`residuals` is empty; leave this loss out of steps without points."
        raise ValueError(msg)
    return plain(residuals).flatten()


def places(index: Index, residuals: Tensor, count: int, *, of: str) -> Tensor:
    """Where the residuals belong.

    The range is only looked at on the CPU: elsewhere that would wait for the device, whose own
    assertion speaks instead.

    Args:
        index: Integers from 0 to ``count - 1``, one per residual.
        residuals: ``[N]``.
        count: How many points or chunks there are.
        of: What is numbered, for the messages: ``"points"`` or ``"chunks"``.

    Returns:
        ``[N]`` integers, on the device of the residuals.

    Raises:
        TypeError: If the index holds no integers.
        ValueError: If it has another length, or numbers something that is not there.
    """
    numbers = plain(torch.as_tensor(index))
    if numbers.is_floating_point() or numbers.dtype == torch.bool:
        hint = " For a mask write `mask.nonzero()`." if numbers.dtype == torch.bool else ""
        msg = f"`index` holds {numbers.dtype}; it must number {of} by integers.{hint}"
        raise TypeError(msg)
    numbers = numbers.flatten().long()
    if len(numbers) != len(residuals):
        msg = f"`index` has {len(numbers)} entries for {len(residuals)} residuals; give each one."
        raise ValueError(msg)
    if numbers.device.type == "cpu":
        _check_range(numbers, count, of)
    return numbers.to(residuals.device)


def check_count(**counts: int | None) -> None:
    """Refuses counts below 1; ``None`` stands for no such count.

    Args:
        counts: By the name of the argument.

    Raises:
        ValueError: If one of them is below 1.
    """
    for argument, count in counts.items():
        if count is not None and count < 1:
            msg = f"`{argument}` is {count}; there must be at least 1."
            raise ValueError(msg)


def _check_range(numbers: Tensor, count: int, of: str) -> None:
    for number in (int(numbers.min()), int(numbers.max())):
        if not 0 <= number < count:
            msg = f"`index` holds {number}; the {of} are numbered from 0 to {count - 1}."
            raise ValueError(msg)
