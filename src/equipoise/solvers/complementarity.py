"""Nonnegative quadratic programs, the common core of the exact solvers."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from equipoise.solvers.scaling import Array, is_finite

Mask: TypeAlias = NDArray[np.bool_]

# Up to this T the compiled method has each problem solved before numpy is through one round.
_SMALL = 20
# The squared sine of a gradient to the span of others below which pivoting tends to cycle.
_DEPENDENT = 0.05
# Smallest eigenvalue to count with, relative to the largest: keeps columns independent that only
# rounding tells apart. It grows where a solution fails the check.
_FLOOR, _LAST_FLOOR = 1e-15, 1e-3
# Of the largest eigenvalue: above it the inverse is accurate enough to work with.
_INVERTIBLE = 1e-5
_TINY = float(np.finfo(np.float64).tiny)


def nonnegative_minimum(
    matrix: Array, linear: Array, scale: Array, free: Mask | None = None
) -> Array:
    r"""Solve K problems $\min_{x \ge 0} \tfrac12 x^\top H x - q^\top x$ that share one matrix.

    Large problems with `H` far from singular go through block principal pivoting first: guess which
    entries are free, solve for them, exchange all that came out with the wrong sign. All K systems
    of a round are solved in one batched call. What this does not settle, and all else, goes to
    scipy's compiled active-set method, one problem at a time, and the result is checked.

    Args:
        matrix: `H`, `[T, T]`, positive semidefinite, diagonal entries of order one.
        linear: `q`, `[K, T]`, in the range of `H` (or the problem is unbounded).
        scale: `[K, 1]`, the size of each problem's data, relative to which signs are judged.
        free: `[K, T]`, first guess of the positive entries.

    Returns:
        `x`, `[K, T]`. It is one of the minimisers where `H` is singular; NaN where the data are
        not finite.

    Source: Júdice and Pires, 1994, Computers & Operations Research 21(5), batched as by Kim and
    Park, 2011, SIAM J. Sci. Comput. 33(6), section 3; active set: Lawson and Hanson, 1974, "Solving
    Least Squares Problems", chapter 23.
    """
    # Zero is optimal where no entry of `q` is positive. (NaN is not told apart here.)
    left = ~(linear.max(1) <= 0)
    if left.all():
        return _minimise(matrix, linear, scale, free)
    solution = np.zeros_like(linear)
    if left.any():
        guess = None if free is None else free[left]
        solution[left] = _minimise(matrix, linear[left], scale[left], guess)
    return solution


def _minimise(matrix: Array, linear: Array, scale: Array, free: Mask | None) -> Array:
    """The problems whose solution may differ from zero."""
    if not (is_finite(matrix) and is_finite(linear)):
        return np.full_like(linear, np.nan)
    if len(matrix) <= _SMALL or (free is None and not _suits_pivoting(matrix)):
        return _active_sets(matrix, linear, scale)
    return _pivot(matrix, linear, scale, linear > 0 if free is None else free)


def _pivot(matrix: Array, linear: Array, scale: Array, free: Mask, floor: float = _FLOOR) -> Array:
    """Exchange blocks first; the active-set method for what that leaves."""
    solution, settled = _exchange_blocks(matrix, linear, scale, free)
    if not settled.all():
        rest = ~settled
        solution[rest] = _active_sets(matrix, linear[rest], scale[rest], floor)
    return solution


def _suits_pivoting(matrix: Array) -> bool:
    """Whether the gradients do not cancel, and none is nearly in the span of those before it."""
    if _cancels(matrix):
        return False
    try:
        heights = np.linalg.cholesky(matrix).diagonal()
    except np.linalg.LinAlgError:
        return False
    return bool(heights.min() ** 2 > _DEPENDENT)


def _cancels(matrix: Array) -> bool:
    """Whether the unit gradients' sum is much shorter than if they were orthogonal."""
    return bool(matrix.sum() < 0.5 * len(matrix))


def _exchange_blocks(matrix: Array, linear: Array, scale: Array, free: Mask) -> tuple[Array, Mask]:
    """The solutions, and which of them can be trusted; gives up where a round makes no progress."""
    result, settled = np.zeros_like(linear), np.zeros(len(linear), dtype=bool)
    pending, fewest = np.arange(len(linear)), np.full(len(linear), len(matrix) + 1)
    while len(pending):
        try:
            x = _solve_free(matrix, linear, free)
        except np.linalg.LinAlgError:
            break
        largest = np.abs(x).max(1, keepdims=True)
        noise = 1e-15 * largest
        wrong = np.where(free, x < -noise, x @ matrix - linear < -1e-13 * scale - noise)
        count = wrong.sum(1)
        done, going = count == 0, (count > 0) & (count < fewest)
        result[pending[done]] = np.maximum(x[done], 0.0)
        # Only dividing by a rounding error makes entries this large.
        settled[pending[done]] = (largest <= 1e6 * scale)[done, 0]
        pending, fewest = pending[going], count[going]
        linear, scale, free = linear[going], scale[going], (free ^ wrong)[going]
    return result, settled


def _solve_free(matrix: Array, linear: Array, free: Mask) -> Array:
    """Minimise over the free entries, the others zero: `[K, T]`."""
    x = np.zeros_like(linear)
    if len(free) == 1:
        chosen = np.flatnonzero(free)
        x[0, chosen] = np.linalg.solve(matrix[chosen[:, None], chosen], linear[0, chosen])
        return x
    # The free entries come first, so that no system is larger than the largest has to be.
    size = int(free.sum(1).max())
    order = np.argsort(~free, axis=1, kind="stable")[:, :size]
    rows = np.arange(len(free))[:, None]
    inside = free[rows, order]
    both = inside[:, :, None] & inside[:, None, :]
    systems = np.where(both, matrix[order[:, :, None], order[:, None, :]], np.eye(size))
    right = np.where(inside, linear[rows, order], 0.0)[:, :, None]
    x[rows, order] = np.linalg.solve(systems, right)[:, :, 0]
    return x


def _active_sets(matrix: Array, linear: Array, scale: Array, floor: float = _FLOOR) -> Array:
    r"""By least squares: $\min_{x \ge 0} \|A x - b\|$ with $A^\top A = H$, $A^\top b = q$."""
    values, vectors = np.linalg.eigh(matrix)
    # A negative eigenvalue tells how large rounding has made those that should be zero.
    least = max(floor * values[-1], -values[0], _TINY)
    roots = np.sqrt(np.maximum(values, least))
    targets = linear @ vectors / roots
    invertible = values[0] > _INVERTIBLE * values[-1]
    if not invertible:
        # `q` is in the range of `H`: what it seems to have outside is rounding.
        targets[:, values <= least] = 0.0
    if invertible and (floor > _FLOOR or _cancels(matrix)):
        solution = _from_bound_entries(vectors.T / roots[:, None], targets)
    else:
        solution = _least_squares(roots[:, None] * vectors.T, targets)
    residual = np.abs(np.minimum(solution, solution @ matrix - linear)).max(1, keepdims=True)
    tolerance = (1e-12 + 10 * least) * (scale + solution.max(1, keepdims=True))
    failed = ~(residual <= tolerance)[:, 0]
    if failed.any() and floor < _LAST_FLOOR:
        # Pivoting goes another way; what it does not settle comes back here with a higher floor.
        start = linear[failed] > 0
        solution[failed] = _pivot(matrix, linear[failed], scale[failed], start, 1e4 * floor)
    return solution


def _least_squares(factor: Array, targets: Array) -> Array:
    """Nonnegative solutions, or zero where rounding made the method cycle.

    Some releases of scipy also return points that are not optimal where rounding decides which
    entries are free (scipy issue 25389).
    """
    # Here, because scipy's solvers take half as long to import as all else, and few methods ask.
    from scipy.optimize import nnls  # noqa: PLC0415

    try:
        return np.array([nnls(factor, target)[0] for target in targets])
    except RuntimeError:
        if len(targets) == 1:
            return np.zeros_like(targets)
        return np.vstack([_least_squares(factor, target[None]) for target in targets])


def _from_bound_entries(inverse: Array, targets: Array) -> Array:
    r"""`_active_sets` through the dual, for few entries at zero: the method starts with none.

    With $x = H^{-1} (q + f)$, the forces $f \ge 0$ at the bounds minimise $\|A^{-\top} f + b\|$.
    """
    forces = _least_squares(inverse, -targets)
    x = (targets + forces @ inverse.T) @ inverse
    return np.where(forces > 0, 0.0, np.maximum(x, 0.0))
