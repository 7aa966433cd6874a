"""Statistics over all elements of a gradient, whatever tensors it is cut into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from equipoise.gradients.gradients import Row


def largest_and_mean(row: Row) -> Tensor:
    """Largest and mean absolute value of all elements, ``[2]``.

    Args:
        row: One flat gradient per tensor.
    """
    # One absolute copy is alive at a time, of one tensor.
    found = torch.stack([torch.stack([size.amax(), size.sum()]) for size in map(torch.abs, row)])
    return torch.stack([found[:, 0].amax(), found[:, 1].sum() / _count(row)])


def standard_deviation(row: Row) -> Tensor:
    """Standard deviation of all elements, a scalar, as `torch.std` has it: over ``n - 1``.

    Args:
        row: One flat gradient per tensor.

    Returns:
        Zero for a single element, which deviates from nothing.

    Example:
        >>> standard_deviation([torch.tensor([1.0, 2.0]), torch.tensor([6.0])])
        tensor(2.6458)
    """
    return (_power_sum(row, 2) / max(_count(row) - 1, 1)).sqrt()


def kurtosis(row: Row) -> Tensor:
    """Mean fourth power of the elements' standard scores, a scalar: 3 for normal ones.

    Args:
        row: One flat gradient per tensor.

    Returns:
        One where all elements are equal.
    """
    deviation = standard_deviation(row)
    scores = _power_sum(row, 4, torch.where(deviation > 0, deviation, 1.0)) / _count(row)
    return torch.where(deviation > 0, scores, 1.0)


def _power_sum(row: Row, power: int, unit: Tensor | float = 1.0) -> Tensor:
    """The summed powers of the elements' distances from their mean, in some unit."""
    # Distances first, powers of them then: the difference of large sums would cancel.
    mean = torch.stack([part.sum() for part in row]).sum() / _count(row)
    return torch.stack([((part - mean) / unit).pow(power).sum() for part in row]).sum()


def _count(row: Row) -> int:
    return sum(part.numel() for part in row)
