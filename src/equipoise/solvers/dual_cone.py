"""Projection onto the dual cone of the gradients."""

from __future__ import annotations

import numpy as np

from equipoise.solvers.complementarity import nonnegative_minimum
from equipoise.solvers.scaling import DOUBLE, Array, is_finite, lifted, unit_diagonal


def dual_cone_projection(gramian: Array, reference: Array, precision: float = DOUBLE) -> Array:
    r"""Weights of the projection of $J^\top u$ onto the dual cone $\{d : J d \ge 0\}$.

    $$\arg\min_{v \ge u} v^\top G v$$

    Exact for every T, to the Gramian's rounding: the projection is no longer than `J^T u` by more
    than that. It does not depend on the scale of the Gramian, and scaling one gradient by a factor
    divides its weight (and is to divide its reference) by that factor.

    Args:
        gramian: `G`, `[T, T]`.
        reference: `u`, `[T]`, or `[K, T]` for K projections at once, which is cheaper than K calls.
        precision: machine epsilon of the dtype in which the gradients were measured.

    Returns:
        `v`, shaped like `reference`; NaN where the Gramian is not finite. Where `G` is singular,
        `v` is one of the minimisers; the projection `J^T v` is the same for all.

    Example:
        >>> gramian = np.array([[1.0, -0.5], [-0.5, 1.0]])
        >>> dual_cone_projection(gramian, np.array([1.0, 0.0]))
        array([1. , 0.5])

    Source: Quinton and Rey, 2024, arXiv:2406.16232, proposition 1 (UPGrad and DualProj); GEM,
    Lopez-Paz and Ranzato, 2017, arXiv:1706.08840, equation 11.
    Differs from the authors' code: nothing is added to `G` here. Their regularisation is up to the
    caller.
    """
    if not is_finite(gramian):
        return np.full(reference.shape, np.nan)
    cosines, lengths = unit_diagonal(gramian)
    cosines = lifted(cosines, precision)
    divisors = np.where(lengths > 0, lengths, 1.0)
    scaled = np.atleast_2d(reference) * lengths
    scale = np.abs(scaled).max(1, keepdims=True)
    correction = nonnegative_minimum(cosines, -(scaled @ cosines), scale) / divisors
    projected: Array = reference + correction.reshape(reference.shape)
    return projected
