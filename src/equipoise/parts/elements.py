"""Statistics over all elements of a gradient, whatever tensors it is cut into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from equipoise.gradients.linalg import inner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from equipoise.gradients.gradients import Row


_CACHED = 1 << 16
"""Elements up to which a tensor and what is computed of it stay in the cache of a core."""


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
    mean = _mean(row)
    # Distances first, their squares then: the difference of large sums would cancel.
    squares = [_square_sum(piece - mean) for piece in _pieces(row)]
    return (torch.stack(squares).sum() / max(_count(row) - 1, 1)).sqrt()


def kurtosis(row: Row) -> Tensor:
    """Mean fourth power of the elements' standard scores, a scalar: 3 for normal ones.

    Args:
        row: One flat gradient per tensor.

    Returns:
        One where all elements are equal.
    """
    mean, deviation = _mean(row), standard_deviation(row)
    unit = torch.where(deviation != 0, deviation, 1.0)
    fourths = [_square_sum(((piece - mean) / unit).square()) for piece in _pieces(row)]
    return torch.where(deviation != 0, torch.stack(fourths).sum() / _count(row), 1.0)


def _mean(row: Row) -> Tensor:
    return torch.stack([part.sum() for part in row]).sum() / _count(row)


def _pieces(row: Row) -> Iterator[Tensor]:
    """The tensors; on a CPU cut so small that what is computed of them stays in its cache."""
    for part in row:
        yield from part.split(_CACHED) if part.is_cpu else (part,)


def _square_sum(part: Tensor) -> Tensor:
    return inner(part, part)


def _count(row: Row) -> int:
    return sum(part.numel() for part in row)
