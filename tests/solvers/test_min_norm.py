from __future__ import annotations

import cvxpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.solvers import min_norm_point
from tests.golden import load
from tests.solvers.gramians import (
    hostile_jacobians,
    independent_jacobians,
    min_norm_gap,
    random_jacobians,
)

HOSTILE = hostile_jacobians()


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_optimality_conditions_hold_on_random_jacobians(spread):
    for jacobian in random_jacobians(1000, seed=1, spread=spread):
        weights = min_norm_point(jacobian @ jacobian.T)
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        assert min_norm_gap(jacobian, weights) < 1e-9


def test_optimality_conditions_hold_for_fifty_losses_of_every_rank():
    for rank in (1, 2, 12, 25, 48, 50, 80):
        jacobian = np.random.default_rng(rank).standard_normal((50, rank))
        assert min_norm_gap(jacobian, min_norm_point(jacobian @ jacobian.T)) < 1e-9


def test_equals_a_conic_solver():
    for jacobian in independent_jacobians(60, seed=2):
        weights = min_norm_point(jacobian @ jacobian.T)
        variable = cvxpy.Variable(len(jacobian))
        objective = cvxpy.Minimize(cvxpy.sum_squares(jacobian.T @ variable))
        problem = cvxpy.Problem(objective, [variable >= 0, cvxpy.sum(variable) == 1])
        problem.solve(cvxpy.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        np.testing.assert_allclose(weights, variable.value, atol=1e-6)


def test_two_losses_follow_the_closed_form():
    for jacobian in random_jacobians(200, seed=3):
        first, second = jacobian[0], jacobian[-1] + 1e-3
        share = np.clip((second - first) @ second / ((second - first) @ (second - first)), 0, 1)
        pair = np.array([first, second])
        np.testing.assert_allclose(min_norm_point(pair @ pair.T), [share, 1 - share], atol=1e-9)


@pytest.mark.parametrize("name", HOSTILE)
def test_degenerate_input_is_solved(name):
    jacobian = HOSTILE[name]
    weights = min_norm_point(jacobian @ jacobian.T)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert min_norm_gap(jacobian, weights) < 1e-7


def test_zero_gradients_share_the_weight():
    np.testing.assert_array_equal(min_norm_point(np.diag([0.0, 1.0, 0.0])), [0.5, 0, 0.5])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_gramian_gives_nan(value):
    gramian = np.eye(3)
    gramian[1, 2] = value
    assert np.isnan(min_norm_point(gramian)).all()


@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-15, 15))
def test_scale_of_the_gradients_does_not_matter(seed, exponent):
    jacobian = np.random.default_rng(seed).standard_normal((4, 6))
    gramian = jacobian @ jacobian.T
    scaled = min_norm_point(gramian * 10.0 ** (2 * exponent))
    np.testing.assert_allclose(scaled, min_norm_point(gramian), rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(5)))
def test_order_of_the_losses_does_not_matter(seed, order):
    jacobian = np.random.default_rng(seed).standard_normal((5, 7))
    weights = min_norm_point(jacobian @ jacobian.T)
    permuted = jacobian[order]
    np.testing.assert_allclose(min_norm_point(permuted @ permuted.T), weights[order], atol=1e-9)


@pytest.mark.parametrize("name", ["mgda_torchjd_T2", "mgda_torchjd_converged"])
def test_weights_follow_the_reference(name):
    golden = load(name)
    for step in golden.steps:
        jacobian = np.array(step["jacobian"])
        weights = min_norm_point(jacobian @ jacobian.T)
        np.testing.assert_allclose(weights, step["weights"], rtol=golden.rtol, atol=golden.atol)
