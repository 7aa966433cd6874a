"""The point of smallest norm in the convex hull of the gradients."""

from __future__ import annotations

import numpy as np

from equipoise.solvers.complementarity import nonnegative_minimum
from equipoise.solvers.scaling import Array, is_finite, unit_diagonal


def min_norm_point(gramian: Array) -> Array:
    r"""Convex combination of the gradients with the smallest norm.

    $$\arg\min_{w \ge 0,\ 1^\top w = 1} w^\top G w$$

    Exact for every T (for T = 2 it is the known closed form) and independent of the scale of `G`.

    Args:
        gramian: `G`, `[T, T]`.

    Returns:
        `w`, `[T]`, on the simplex; NaN where the Gramian is not finite. Gradients that are zero
        share all the weight: the minimum is then zero.

    Example:
        >>> min_norm_point(np.diag([1.0, 3.0]))
        array([0.75, 0.25])

    Source: Désidéri, 2012, Comptes Rendus Mathématique 350(5-6); Sener and Koltun, 2018,
    arXiv:1810.04650, equation 3.
    Differs from the paper: Sener and Koltun iterate Frank-Wolfe steps and stop early. This is the
    exact minimum.
    """
    if not is_finite(gramian):
        return np.full(len(gramian), np.nan)
    cosines, lengths = unit_diagonal(gramian)
    shortest = lengths.min()
    if shortest == 0:
        return zero_rows(lengths)
    ratios = shortest / lengths
    return normalised(ratios * least_norm(cosines, ratios))


def least_norm(matrix: Array, ratios: Array) -> Array:
    r"""$\arg\min_{z \ge 0,\ b^\top z = 1} z^\top H z$ for positive `b`, up to a positive factor.

    Without the constraint, $\tfrac12 z^\top (H + bb^\top) z - b^\top z$ has its minimum on the same
    ray, and is bounded also where the gradients cancel.
    """
    bordered = matrix + ratios * ratios[:, None]
    point: Array = nonnegative_minimum(bordered, ratios[None], np.ones((1, 1)))[0]
    return point


def zero_rows(lengths: Array) -> Array:
    """Equal weights on the gradients of length zero."""
    return normalised(np.where(lengths == 0, 1.0, 0.0))


def normalised(weights: Array) -> Array:
    """Divided by their sum."""
    quotient: Array = weights / weights.sum()
    return quotient
