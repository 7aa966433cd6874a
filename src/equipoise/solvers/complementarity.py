"""Nonnegative quadratic programs, the common core of the exact solvers."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from equipoise.solvers.scaling import Array

Mask: TypeAlias = NDArray[np.bool_]

_PATIENCE = 3
_ROUNDS = 12
# The second makes an exactly singular system solvable; its error is of the order of rounding.
_SHIFTS = (0.0, 1e-14)
_TINY = float(np.finfo(np.float64).tiny)


def nonnegative_minimum(
    matrix: Array, linear: Array, scale: Array, free: Mask | None = None
) -> Array:
    r"""Solve K problems $\min_{x \ge 0} \tfrac12 x^\top H x - q^\top x$ that share one matrix.

    Block principal pivoting: guess which entries are free, solve for them, exchange all that came
    out with the wrong sign. All K systems of a round are solved in one batched call. The few
    problems that this does not settle, with a singular `H`, go to an active-set method, which is
    slower but never gets worse from one step to the next.

    Args:
        matrix: `H`, `[T, T]`, positive semidefinite, diagonal entries of order one.
        linear: `q`, `[K, T]`, in the range of `H` (or the problem is unbounded).
        scale: `[K, 1]`, the size of each problem's data, relative to which signs are judged.
        free: `[K, T]`, first guess of the positive entries.

    Returns:
        `x`, `[K, T]`. It is one of the minimisers where `H` is singular.

    Source: Júdice and Pires, 1994, Computers & Operations Research 21(5), batched as by Kim and
    Park, 2011, SIAM J. Sci. Comput. 33(6), section 3; active set: Lawson and Hanson, 1974, "Solving
    Least Squares Problems", chapter 23.
    """
    start = linear > 0 if free is None else free
    solution, unsolved = _exchange_blocks(matrix, linear, scale, start)
    for row in unsolved:
        solution[row] = _active_set(
            matrix, linear[row], float(scale[row, 0]), np.maximum(solution[row], 0.0)
        )
    return np.maximum(solution, 0.0)


def _exchange_blocks(
    matrix: Array, linear: Array, scale: Array, free: Mask
) -> tuple[Array, NDArray[np.intp]]:
    """The solutions, and the numbers of those problems that were not solved in time."""
    result = np.zeros_like(linear)
    pending = np.arange(len(linear))
    fewest, patience = np.full(len(linear), np.inf), np.full(len(linear), _PATIENCE)
    for _ in range(_ROUNDS):
        x = _solve_free(matrix, linear, free)
        tolerance = 1e-13 * scale + 1e-15 * np.abs(x).max(1, keepdims=True)
        wrong = np.where(free, x < 0, x @ matrix - linear < -tolerance)
        count = wrong.sum(1)
        going = count > 0
        result[pending] = x
        pending = pending[going]
        if not len(pending):
            break
        linear, scale = linear[going], scale[going]
        patience = np.where(count < fewest, _PATIENCE, patience - 1)[going]
        fewest = np.minimum(count, fewest)[going]
        free = free[going] ^ _to_exchange(wrong[going], patience)
    return result, pending


def _solve_free(matrix: Array, linear: Array, free: Mask) -> Array:
    """Minimise over the free entries, the others zero: `[K, T]`."""
    identity = np.eye(len(matrix))
    systems = np.where(free[:, :, None] & free[:, None, :], matrix, identity)
    right = np.where(free, linear, 0.0)[:, :, None]
    solution: Array
    for shift in _SHIFTS:
        try:
            shifted = systems + shift * identity if shift else systems
            solution = np.linalg.solve(shifted, right)[:, :, 0]
        except np.linalg.LinAlgError:
            continue
        return solution
    inverse: Array = np.linalg.pinv(systems, hermitian=True)
    return (inverse @ right)[:, :, 0]


def _to_exchange(wrong: Mask, patience: NDArray[np.int_]) -> Mask:
    """All wrong entries; only the last one where exchanging all has stopped helping (Murty)."""
    stalled = patience < 0
    if stalled.any():
        last = wrong.shape[1] - 1 - wrong[:, ::-1].argmax(1)
        only_last = np.arange(wrong.shape[1]) == last[:, None]
        return np.where(stalled[:, None], only_last, wrong)
    return wrong


def _active_set(matrix: Array, linear: Array, scale: float, start: Array) -> Array:
    """One problem of `nonnegative_minimum`: free the steepest entry, walk to the new minimum."""
    x = _walk(matrix, linear, start, start > 0)
    refused = np.zeros(len(linear), dtype=bool)
    for _ in range(3 * len(linear)):
        slope = linear - matrix @ x
        slope[(x > 0) | refused] = 0.0
        steepest = int(slope.argmax())
        if slope[steepest] <= 1e-13 * scale + 1e-15 * x.max():
            break
        free = x > 0
        free[steepest] = True
        moved = _walk(matrix, linear, x, free)
        # An entry that cannot grow was chosen by rounding, and has to wait for another to move.
        refused = refused & (moved[steepest] <= 0)
        refused[steepest] = moved[steepest] <= 0
        x = moved
    return x


def _walk(matrix: Array, linear: Array, x: Array, free: Mask) -> Array:
    """Minimise over the free entries from a nonnegative `x`, dropping those that reach zero."""
    while free.any():
        target = _minimum_over(matrix, linear, free)
        blocking = free & (target <= 0)
        if not blocking.any():
            return target
        shares = x[blocking] / (x[blocking] - np.minimum(target[blocking], 0.0) + _TINY)
        x = x + shares.min() * (target - x)
        free = free & ~(blocking & (x <= 1e-15 * x.max()))
        free[np.flatnonzero(blocking)[shares.argmin()]] = False
        x = np.where(free, x, 0.0)
    return x


def _minimum_over(matrix: Array, linear: Array, free: Mask) -> Array:
    """`_solve_free` for one problem, for which the smaller system is worth taking out."""
    chosen = np.flatnonzero(free)
    part = matrix[chosen[:, None], chosen]
    solution = np.zeros(len(linear))
    solution[chosen] = _solve_free(part, linear[None, chosen], free[None, chosen])[0]
    return solution
