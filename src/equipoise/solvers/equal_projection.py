"""The direction with equal projections onto all gradients."""

from __future__ import annotations

import numpy as np

from equipoise.solvers.scaling import DOUBLE, Array, is_finite, rounding, unit_diagonal

# Eigenvalues of the cosines below this belong to dependent gradients; more do where the Gramian is
# less precise.
_DEPENDENT = 1e-12


def equal_projection(gramian: Array, precision: float = DOUBLE) -> Array:
    r"""Weights of IMTL-G: the combined gradient has the same projection onto every gradient.

    $$w = \frac{G^{-1} n}{1^\top G^{-1} n}, \qquad n_t = \|g_t\| = \sqrt{G_{tt}}$$

    Args:
        gramian: `G`, `[T, T]`.
        precision: machine epsilon of the dtype in which the gradients were measured.

    Returns:
        `w`, `[T]`, sums to 1, entries may be negative; NaN where the Gramian is not finite. A
        gradient that is zero is dropped: its weight is 0. Where gradients are dependent: if equal
        projections are possible, the shortest solution in units of one over the lengths; if only
        a projection of zero is equal (opposite gradients), the weights with which the gradients
        cancel. Where no multiple of the direction has weights of sum 1, the mean, 1 / T.

    Example:
        >>> equal_projection(np.diag([1.0, 9.0]))
        array([0.75, 0.25])

    Source: Liu, Li, Kuang, Xue, Chen, Yang, Liao and Zhang, 2021, "Towards Impartial Multi-task
    Learning", ICLR, closed form of IMTL-G.
    Differs from the authors' formula: theirs, with the inverse of $D U^\top$, is the same where it
    exists, and is NaN for a zero gradient.
    """
    if not is_finite(gramian):
        return np.full(len(gramian), np.nan)
    cosines, lengths = unit_diagonal(gramian)
    present = lengths > 0
    if not present.any():
        return np.full(len(lengths), 1 / len(lengths))
    dependent = max(_DEPENDENT, rounding(len(lengths), precision))
    cosines = cosines[np.ix_(present, present)]
    solution = _solve_ones(cosines, dependent) / lengths[present]
    total = float(solution.sum())
    if abs(total) <= dependent * float(np.abs(solution).sum()):
        solution, total = np.ones_like(solution), float(len(solution))
    weights = np.zeros(len(lengths))
    weights[present] = solution / total
    return weights


def _solve_ones(cosines: Array, dependent: float) -> Array:
    r"""$C^{-1} 1$, or its limit up to a factor as a singular `C` is approached from above."""
    try:
        inverse = np.linalg.inv(cosines)
    except np.linalg.LinAlgError:
        return _solve_ones_singular(cosines, dependent)
    if not np.abs(inverse).max() < 1 / dependent:
        return _solve_ones_singular(cosines, dependent)
    solution: Array = inverse.sum(1)
    return solution


def _solve_ones_singular(cosines: Array, dependent: float) -> Array:
    values, vectors = np.linalg.eigh(cosines)
    ones = vectors.sum(0)
    null = values <= 10 * dependent
    if float(ones[null] @ ones[null]) > max(1e-10, dependent) * len(values):
        kernel: Array = vectors[:, null] @ ones[null]
        return kernel
    shortest: Array = vectors[:, ~null] @ (ones[~null] / values[~null])
    return shortest
