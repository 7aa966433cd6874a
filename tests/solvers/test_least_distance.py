from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from equipoise.solvers.least_distance import nearest_direction
from tests.solvers.gramians import hostile_jacobians, independent_jacobians


@pytest.mark.parametrize("tau", [0.0, 0.05, 1.0])
def test_optimality_conditions_hold_for_every_size(tau):
    for jacobian in independent_jacobians(60, seed=1):
        gramian = jacobian @ jacobian.T
        weights = nearest_direction(gramian, 0, np.full(len(gramian), tau))
        slack = (gramian @ weights - tau * gramian.diagonal())[1:]
        scale = gramian.diagonal().max()
        assert weights[0] == 1
        assert (weights >= 0).all()
        assert (slack >= -1e-9 * scale).all()
        assert np.abs(slack * weights[1:]).max(initial=0) <= 1e-8 * scale


def test_equal_to_a_general_solver_for_any_primary():
    jacobian = next(j for j in independent_jacobians(20, seed=3) if len(j) == 4)
    tau = np.array([0.3, 0.1, 0.0, 0.2])
    gramian = jacobian @ jacobian.T
    others = [0, 1, 3]
    found = minimize(
        lambda d: ((d - jacobian[2]) ** 2).sum(),
        jacobian[2],
        jac=lambda d: 2 * (d - jacobian[2]),
        constraints={
            "type": "ineq",
            "fun": lambda d: jacobian[others] @ d - (tau * gramian.diagonal())[others],
            "jac": lambda _: jacobian[others],
        },
        options={"ftol": 1e-15, "maxiter": 500},
    )
    np.testing.assert_allclose(
        nearest_direction(gramian, 2, tau) @ jacobian, found.x, rtol=1e-5, atol=1e-6
    )


def test_contradicting_constraints_and_a_zero_primary_leave_the_primary():
    opposite = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    np.testing.assert_array_equal(
        nearest_direction(opposite @ opposite.T, 0, np.full(3, 0.1)), [1, 0, 0]
    )
    np.testing.assert_array_equal(
        nearest_direction(np.diag([0.0, 1.0]), 0, np.full(2, 0.1)), [1, 0]
    )


@pytest.mark.parametrize("name", hostile_jacobians())
def test_degenerate_gradients_end_finite_in_both_precisions(name):
    jacobian = hostile_jacobians()[name]
    for dtype in (np.float64, np.float32):
        gramian = (jacobian @ jacobian.T).astype(dtype).astype(np.float64)
        precision = float(np.finfo(dtype).eps)
        progress = np.full(len(gramian), 0.02)
        assert np.isfinite(nearest_direction(gramian, 0, progress, precision)).all()
    assert np.isnan(nearest_direction(np.full((2, 2), np.nan), 0, np.zeros(2))).all()
