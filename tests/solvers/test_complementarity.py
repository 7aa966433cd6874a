from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from equipoise.solvers.complementarity import nonnegative_minimum
from tests.solvers.gramians import independent_jacobians, random_jacobians


def test_equals_nonnegative_least_squares():
    for jacobian in independent_jacobians(400, seed=1):
        target = np.random.default_rng(len(jacobian)).standard_normal(jacobian.shape[1])
        linear = (jacobian @ target)[None]
        scale = np.abs(linear).max(1, keepdims=True)
        found = nonnegative_minimum(jacobian @ jacobian.T, linear, scale)[0]
        np.testing.assert_allclose(found, nnls(jacobian.T, target)[0], atol=1e-9)


@pytest.mark.parametrize("rank", [1, 3, 12, 25, 45])
def test_singular_matrices_reach_the_least_residual(rank):
    for seed in range(5):
        generator = np.random.default_rng(seed)
        jacobian = generator.standard_normal((50, rank))
        jacobian /= np.linalg.norm(jacobian, axis=1, keepdims=True)
        targets = generator.standard_normal((4, rank))
        linear = targets @ jacobian.T
        found = nonnegative_minimum(jacobian @ jacobian.T, linear, np.ones((4, 1)))
        for target, x in zip(targets, found, strict=True):
            residual = np.linalg.norm(jacobian.T @ x - target)
            assert residual == pytest.approx(nnls(jacobian.T, target)[1], abs=1e-7)


def test_first_guess_does_not_change_the_solution():
    generator = np.random.default_rng(3)
    for jacobian in random_jacobians(100, seed=3):
        matrix = jacobian @ jacobian.T + np.eye(len(jacobian))
        linear = generator.standard_normal((2, len(jacobian)))
        guess = generator.random(linear.shape) < 0.5
        found = nonnegative_minimum(matrix, linear, np.ones((2, 1)), guess)
        expected = nonnegative_minimum(matrix, linear, np.ones((2, 1)))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("count", [6, 20, 40])
def test_signs_that_rounding_decides_do_not_hide_the_solution(count):
    # Entries of the linear term far below rounding: scipy's nnls alone misses a few of these.
    for seed in range(100):
        generator = np.random.default_rng(seed)
        lengths = 10.0 ** generator.uniform(-15, 15, (count, 1))
        jacobian = generator.standard_normal((count, 2 * count)) * lengths / lengths.max()
        gramian = jacobian @ jacobian.T + 1e-4 * np.eye(count)
        sizes = np.sqrt(gramian.diagonal())
        matrix = gramian / sizes / sizes[:, None]
        found = nonnegative_minimum(matrix, -matrix, np.ones((count, 1)))
        assert found.min() >= 0
        assert np.abs(np.minimum(found, found @ matrix + matrix)).max() < 1e-12


@pytest.mark.parametrize("columns", [30, 45, 120])
def test_gradients_that_cancel_are_solved_as_exactly_as_others(columns):
    jacobian = np.random.default_rng(columns).standard_normal((45, columns))
    jacobian -= 0.95 * jacobian.mean(0)
    jacobian = np.hstack([jacobian, 0.1 * np.eye(45)])
    jacobian /= np.linalg.norm(jacobian, axis=1, keepdims=True)
    matrix = jacobian @ jacobian.T
    found = nonnegative_minimum(matrix, -matrix, np.ones((45, 1)))
    for target, x in zip(-jacobian, found, strict=True):
        np.testing.assert_allclose(x, nnls(jacobian.T, target)[0], atol=1e-10)


@pytest.mark.parametrize("count", [2, 30])
def test_opposed_duplicates_reach_zero_residual(count):
    for seed in range(20):
        rows = np.random.default_rng(seed).standard_normal((count, 5))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        jacobian = np.vstack([rows, rows, -rows])
        matrix = jacobian @ jacobian.T
        found = nonnegative_minimum(matrix, -matrix, np.ones((3 * count, 1)))
        assert np.abs((found + np.eye(3 * count)) @ jacobian).max() < 1e-6


@pytest.mark.parametrize("count", [3, 30])
def test_nan_gives_nan(count):
    matrix, linear = np.eye(count), np.ones((2, count))
    broken = np.where(np.eye(count, k=1) > 0, np.nan, matrix)
    assert np.isnan(nonnegative_minimum(broken + broken.T, linear, np.ones((2, 1)))).all()
    linear[:, 0] = np.nan
    assert np.isnan(nonnegative_minimum(matrix, linear, np.ones((2, 1)))).all()
