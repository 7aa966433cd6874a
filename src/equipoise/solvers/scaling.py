"""What every solver does first: check the Gramian and take its rows' lengths out of it."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


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
