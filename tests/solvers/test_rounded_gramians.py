"""Gramians measured in float32 are positive semidefinite only to 1e-7."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.solvers import (
    aligned,
    alpha_fairness,
    cagrad_weights,
    dual_cone_projection,
    equal_projection,
    min_norm_point,
    nash_bargaining,
)
from tests.solvers.gramians import hostile_jacobians, random_jacobians


def rounded_gramians():
    jacobians = [*hostile_jacobians().values(), *random_jacobians(200, seed=9, spread=3.0)]
    for jacobian in jacobians:
        single = jacobian.astype(np.float32)
        yield (single @ single.T).astype(np.float64)


@pytest.mark.parametrize(
    "solve",
    [
        min_norm_point,
        equal_projection,
        nash_bargaining,
        lambda gramian: alpha_fairness(gramian, 0.5),
        lambda gramian: alpha_fairness(gramian, 2.0),
        lambda gramian: cagrad_weights(gramian, 0.4),
        lambda gramian: dual_cone_projection(gramian, np.eye(len(gramian))),
        lambda gramian: aligned(gramian, np.ones(len(gramian)), epsilon=2.0**-23),
    ],
)
def test_every_solver_ends_finite(solve):
    for gramian in rounded_gramians():
        assert np.isfinite(solve(gramian)).all()


@pytest.mark.parametrize("solve", [min_norm_point, lambda gramian: cagrad_weights(gramian, 0.4)])
def test_weights_stay_on_the_simplex(solve):
    for gramian in rounded_gramians():
        weights = solve(gramian)
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1, abs=1e-12)


def test_min_norm_point_is_optimal_to_the_gramians_accuracy():
    for jacobian in random_jacobians(300, seed=10):
        single = jacobian.astype(np.float32)
        weights = min_norm_point((single @ single.T).astype(np.float64))
        exact = min_norm_point(jacobian @ jacobian.T)
        size = np.abs(jacobian @ jacobian.T).max()
        found = np.sum((jacobian.T @ weights) ** 2)
        assert found <= np.sum((jacobian.T @ exact) ** 2) + 1e-5 * size
