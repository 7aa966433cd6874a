"""Jacobians on which the solvers are tried, and the numbers by which a result is judged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def random_jacobians(count: int, *, seed: int, spread: float = 0.0) -> Iterator[Array]:
    """Full-rank and rank-deficient, agreeing and conflicting; row lengths over 10^(+-spread)."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        rows, columns = generator.integers(1, 11), generator.integers(1, 21)
        common = generator.normal() * generator.standard_normal(columns)
        jacobian = generator.standard_normal((rows, columns)) + 0.5 * common
        yield jacobian * 10.0 ** generator.uniform(-spread, spread, (rows, 1))


def independent_jacobians(count: int, *, seed: int) -> Iterator[Array]:
    """Rows that are linearly independent by a wide margin."""
    for jacobian in random_jacobians(count, seed=seed):
        yield np.hstack([jacobian, np.eye(len(jacobian))])


def hostile_jacobians() -> dict[str, Array]:
    """Degenerate inputs, by name."""
    generator = np.random.default_rng(7)
    row, other, third = generator.standard_normal((3, 6))
    zero = np.zeros(6)
    many = generator.standard_normal((8, 3))
    return {
        "one loss": np.array([row]),
        "one loss, zero gradient": np.array([zero]),
        "all zero": np.zeros((4, 6)),
        "one zero": np.array([row, zero, other]),
        "two zeros": np.array([zero, row, zero]),
        "identical": np.array([row, row, row]),
        "parallel": np.array([row, 2 * row, other]),
        "nearly parallel": np.array([row, row + 1e-9 * other, third]),
        "opposite": np.array([row, -row]),
        "opposite, different lengths": np.array([row, -3 * row, other]),
        "nearly opposite": np.array([row, -row + 1e-7 * other]),
        "opposite and zero": np.array([row, -row, zero]),
        "rank one, both signs": np.outer([1.0, -2.0, 0.5, 3.0], row),
        "rank one, one sign": np.outer([1.0, 2.0, 0.5, 3.0], row),
        "cancelling in a plane": np.array([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]]),
        "more losses than parameters": np.vstack([many, -many.sum(0)]),
        "orthogonal": np.diag([1.0, 2.0, 3.0]),
        "tiny": 1e-15 * np.array([row, other, third]),
        "huge": 1e15 * np.array([row, other, third]),
        "lengths over thirty decades": np.array([1e-15 * row, other, 1e15 * third]),
        "one dominates": np.array([row, other, 1e6 * third]),
    }


def lengths(jacobian: Array) -> Array:
    """Norms of the rows, with 1 in place of 0."""
    norms = np.linalg.norm(jacobian, axis=1)
    return np.where(norms > 0, norms, 1.0)


def min_norm_gap(jacobian: Array, weights: Array) -> float:
    """How far from optimal `weights` are as a min-norm point: 0 at the optimum.

    The optimum's condition is `g_i . x >= x . x` for all i. Each violation counts in units of
    what it allows to gain: the gradient's length times that of the shortest.
    """
    combined = jacobian.T @ weights
    norms = lengths(jacobian)
    violations = (combined @ combined - jacobian @ combined) / norms / norms.min()
    return max(float(violations.max()), 0.0)


def dual_cone_gap(jacobian: Array, reference: Array, weights: Array) -> float:
    """The largest violation of the optimality conditions of one projection, scale-free."""
    norms = lengths(jacobian)
    size = float((np.abs(reference) * norms).max()) or 1.0
    products = jacobian @ (jacobian.T @ weights) / norms / size
    added = (weights - reference) * norms / size
    return max(
        float(-products.min()), float(-added.min()), float(np.abs(products * added).max()), 0.0
    )


def cagrad_objective(jacobian: Array, c: float, weights: Array) -> float:
    """The function that CAGrad minimises over the simplex."""
    mean, combined = jacobian.mean(0), jacobian.T @ weights
    return float(combined @ mean + c * np.linalg.norm(mean) * np.linalg.norm(combined))
