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
