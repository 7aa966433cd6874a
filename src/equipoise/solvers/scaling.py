"""What every solver does first: check the Gramian and take its rows' lengths out of it."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

DOUBLE = float(np.finfo(np.float64).eps)
"""Precision of a Gramian that was measured in float64."""


def is_finite(gramian: Array) -> bool:
    """Whether no entry is NaN or infinite (LAPACK would raise, or loop, on such a matrix)."""
    return bool(np.isfinite(gramian).all())


def unit_diagonal(gramian: Array) -> tuple[Array, Array]:
    """Cosines `C` and lengths `d` of the gradients, so that `G = diag(d) C diag(d)`.

    Lengths are in units of the longest gradient's. A zero gradient keeps length zero and a zero row
    in `C`. Rounding may leave a tiny negative diagonal entry, which counts as zero.
    """
    squares = gramian.diagonal()
    largest = squares.max()
    if not largest > 0:
        return np.zeros_like(gramian), np.zeros(len(gramian))
    lengths = np.sqrt(np.maximum(squares / largest, 0.0))
    divisors = np.where(lengths > 0, lengths, 1.0)
    # Two divisions rather than one by the outer product, which underflows for tiny lengths.
    cosines = gramian / largest / divisors / divisors[:, None]
    return cosines, lengths


def rounding(count: int, precision: float) -> float:
    """How far rounding may have moved an eigenvalue of the cosines.

    An entry of the Gramian is off by a few units of the last digit of the product of two lengths,
    and `T` such entries meet in a row.

    Args:
        count: `T`.
        precision: machine epsilon of the dtype in which the Gramian was measured.
    """
    return 4 * count * precision


def lifted(cosines: Array, precision: float) -> Array:
    """Cosines on whose diagonal lies what rounding may have taken away.

    So no combination seems shorter than it may be, and none is worth an unbounded weight. It moves
    the solution by no more than rounding did; solvers that look for the kernel must not use it.
    Cosines in double are as precise as the solver itself, whose own guards do; they stay.
    """
    if precision <= DOUBLE:
        return cosines
    matrix: Array = cosines + rounding(len(cosines), precision) * np.eye(len(cosines))
    return matrix


def norm_bounds(gramian: Array, weights: Array, precision: float) -> tuple[float, float]:
    r"""The least and the largest norm that $J^\top w$ can have, given how `G` was rounded.

    Args:
        gramian: `G`, `[T, T]`.
        weights: `w`, `[T]`.
        precision: machine epsilon of the dtype in which the Gramian was measured.
    """
    square = max(float(weights @ gramian @ weights), 0.0)
    parts = float(np.square(weights) @ np.maximum(gramian.diagonal(), 0.0))
    margin = rounding(len(weights), precision) * parts
    return float(np.sqrt(max(square - margin, 0.0))), float(np.sqrt(square + margin))
