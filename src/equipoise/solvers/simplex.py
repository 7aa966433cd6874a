"""The nearest point of the probability simplex."""

from __future__ import annotations

import numpy as np

from equipoise.solvers.scaling import Array, is_finite


def simplex_projection(point: Array) -> Array:
    r"""The point of the simplex that is nearest to a given one.

    $$\arg\min_{w \ge 0,\ 1^\top w = 1} \|w - v\|^2 = \max(v - \theta, 0)$$

    with $\theta$ such that the entries sum to 1. Exact for every T.

    Args:
        point: `v`, `[T]`.

    Returns:
        `w`, `[T]`; NaN where `v` is not finite.

    Example:
        >>> simplex_projection(np.array([0.5, 0.9, -3.0]))
        array([0.3, 0.7, 0. ])

    Source: Held, Wolfe and Crowder, 1974, Mathematical Programming 6; Duchi, Shalev-Shwartz, Singer
    and Chandra, 2008, ICML, figure 1.
    """
    if not is_finite(point):
        return np.full_like(point, np.nan)
    # Measured from the largest entry, huge points lose no digits to the 1 they are to sum to.
    shifted = point - point.max()
    descending = np.sort(shifted)[::-1]
    thresholds = (descending.cumsum() - 1) / np.arange(1, len(point) + 1)
    threshold = thresholds[descending > thresholds][-1]
    projected: Array = np.maximum(shifted - threshold, 0.0)
    return projected
