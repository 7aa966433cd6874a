"""The direction nearest to one gradient on which the others make enough progress."""

from __future__ import annotations

import numpy as np

from equipoise.solvers.complementarity import nonnegative_minimum
from equipoise.solvers.scaling import Array, is_finite, unit_diagonal


def nearest_direction(
    gramian: Array, primary: int, progress: Array, precision: float = 2.3e-16
) -> Array:
    r"""Weights of the direction nearest to the primary gradient that satisfies the others.

    $$\arg\min_d \|d - n_p\|^2 \quad\text{subject to}\quad
    n_j^\top d \ge \tau_j \|n_j\|^2,\ j \ne p$$

    Exact for every T and independent of the scale of `G`. The least-distance program is turned
    into a nonnegative one, which has a solution also where the constraints contradict each other,
    and then tells so.

    Args:
        gramian: `G`, `[T, T]`, of the gradients `n`.
        primary: `p`.
        progress: `tau`, `[T]`; the entry of the primary is not read.
        precision: Relative error of the Gramian's entries.

    Returns:
        `v`, `[T]`, with `d = sum_t v_t n_t`; NaN where the Gramian is not finite. Where the
        constraints contradict each other, or the primary gradient is zero, `d = n_p`.

    Example:
        >>> gramian = np.array([[1.0, -0.5], [-0.5, 1.0]])
        >>> nearest_direction(gramian, 0, np.array([0.0, 0.1]))
        array([1. , 0.6])

    Source: Lawson and Hanson, 1974, "Solving Least Squares Problems", chapter 23, problem LDP.
    """
    if not is_finite(gramian):
        return np.full(len(gramian), np.nan)
    cosines, lengths = unit_diagonal(gramian)
    weights = np.zeros(len(gramian))
    weights[primary] = 1.0
    bound = (lengths > 0) & (weights == 0)
    lacking = progress[bound] * lengths[bound] - cosines[bound, primary] * lengths[primary]
    scale = lacking.max(initial=0.0)
    if scale <= 0 or lengths[primary] == 0:
        return weights
    lacking = lacking / scale
    bordered = cosines[np.ix_(bound, bound)] + lacking * lacking[:, None]
    dual = nonnegative_minimum(bordered, lacking[None], np.ones((1, 1)))[0]
    feasible = 1 - float(lacking @ dual)
    if feasible > 100 * len(gramian) * precision:
        weights[bound] = scale * dual / feasible / lengths[bound]
    return weights
