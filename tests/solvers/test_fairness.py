from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from equipoise.solvers import alpha_fairness, nash_bargaining
from tests.golden import load, names
from tests.solvers.gramians import hostile_jacobians, independent_jacobians, lengths

HOSTILE = hostile_jacobians()
SOLVABLE = ["one loss", "identical", "parallel", "nearly parallel", "rank one, one sign"]
SOLVABLE += ["orthogonal", "tiny", "huge", "one dominates"]
CANCELLING = ["opposite", "opposite, different lengths", "rank one, both signs"]
CANCELLING += ["cancelling in a plane", "opposite and zero", "more losses than parameters"]


def residual(gramian, weights, alpha):
    """Of the equation, relative: 0 at the solution."""
    return np.abs((gramian @ weights) * weights ** (1 / alpha) - 1).max()


@pytest.mark.parametrize(
    ("alpha", "tolerance"), [(0.1, 1e-7), (0.5, 1e-10), (1.0, 1e-10), (2.0, 1e-10), (5.0, 1e-10)]
)
def test_equation_holds_on_random_jacobians(alpha, tolerance):
    for jacobian in independent_jacobians(400, seed=1):
        gramian = jacobian @ jacobian.T
        weights = alpha_fairness(gramian, alpha)
        assert weights.min() > 0
        assert residual(gramian, weights, alpha) < tolerance


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_equation_holds_for_lengths_over_six_decades(alpha):
    generator = np.random.default_rng(2)
    for jacobian in independent_jacobians(200, seed=2):
        spread = jacobian * 10.0 ** generator.uniform(-3, 3, (len(jacobian), 1))
        gramian = spread @ spread.T
        assert residual(gramian, alpha_fairness(gramian, alpha), alpha) < 1e-7


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_equation_holds_for_fifty_losses(alpha):
    for seed in range(10):
        jacobian = np.random.default_rng(seed).standard_normal((50, 60))
        gramian = jacobian @ jacobian.T
        assert residual(gramian, alpha_fairness(gramian, alpha), alpha) < 1e-10


def test_bargaining_solution_equals_a_general_minimiser():
    for jacobian in independent_jacobians(40, seed=3):
        gramian = jacobian @ jacobian.T

        def objective(logarithms, gramian=gramian):
            weights = np.exp(logarithms)
            value = weights @ gramian @ weights / 2 - logarithms.sum()
            return value, weights * (gramian @ weights) - 1

        found = minimize(objective, np.zeros(len(gramian)), jac=True, tol=1e-12)
        np.testing.assert_allclose(nash_bargaining(gramian), np.exp(found.x), rtol=1e-5)


@pytest.mark.parametrize("name", SOLVABLE)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_degenerate_input_with_a_solution_is_solved(name, alpha):
    jacobian = HOSTILE[name]
    gramian = jacobian @ jacobian.T
    assert residual(gramian, alpha_fairness(gramian, alpha), alpha) < 1e-9


def test_bargaining_is_solved_for_lengths_over_thirty_decades():
    jacobian = HOSTILE["lengths over thirty decades"]
    gramian = jacobian @ jacobian.T
    assert residual(gramian, nash_bargaining(gramian), 1.0) < 1e-9


def test_nearly_opposite_gradients_are_solved():
    gramian = np.array([[1.0, -1.0], [-1.0, 1.0]]) + 1e-9 * np.eye(2)
    assert residual(gramian, nash_bargaining(gramian), 1.0) < 1e-5


@pytest.mark.parametrize("name", CANCELLING)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_cancelling_gradients_get_the_weights_with_which_they_cancel(name, alpha):
    jacobian = HOSTILE[name]
    weights = alpha_fairness(jacobian @ jacobian.T, alpha)
    assert np.isfinite(weights).all()
    assert weights.min() >= 0
    assert weights.max() > 0
    parts = weights * np.linalg.norm(jacobian, axis=1)
    assert np.linalg.norm(jacobian.T @ weights) < 1e-3 * parts.sum()


@pytest.mark.parametrize("name", CANCELLING)
def test_cancelling_gradients_have_mean_weight_one_over_their_lengths(name):
    jacobian = HOSTILE[name]
    weights = nash_bargaining(jacobian @ jacobian.T) * lengths(jacobian)
    assert weights[weights > 0].mean() == pytest.approx(1)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 2.0, 10.0])
def test_degenerate_input_ends_finite(name, alpha):
    jacobian = HOSTILE[name]
    weights = alpha_fairness(jacobian @ jacobian.T, alpha)
    assert np.isfinite(weights).all()
    assert weights.min() >= 0


def test_zero_gradient_is_left_out():
    np.testing.assert_allclose(nash_bargaining(np.diag([1.0, 0.0, 4.0])), [1, 0, 0.5])
    np.testing.assert_array_equal(nash_bargaining(np.zeros((2, 2))), [0, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_gramian_gives_nan(value):
    gramian = np.eye(3)
    gramian[1, 2] = value
    assert np.isnan(nash_bargaining(gramian)).all()
    assert np.isnan(alpha_fairness(gramian, 2.0)).all()


@given(seed=st.integers(0, 2**32 - 1), exponents=st.lists(st.floats(-9, 9), min_size=4, max_size=4))
def test_scaling_a_gradient_leaves_the_bargained_update(seed, exponents):
    jacobian = np.random.default_rng(seed).standard_normal((4, 8))
    factors = 10.0 ** np.array(exponents)
    scaled = jacobian * factors[:, None]
    weights = nash_bargaining(scaled @ scaled.T) * factors
    np.testing.assert_allclose(weights, nash_bargaining(jacobian @ jacobian.T), rtol=1e-6)


@given(
    seed=st.integers(0, 2**32 - 1),
    exponent=st.floats(-15, 15),
    alpha=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_scale_of_the_gramian_enters_as_its_power(seed, exponent, alpha):
    jacobian = np.random.default_rng(seed).standard_normal((4, 8))
    gramian = jacobian @ jacobian.T
    expected = alpha_fairness(gramian, alpha) * 10 ** (-2 * exponent * alpha / (1 + alpha))
    scaled = alpha_fairness(gramian * 10.0 ** (2 * exponent), alpha)
    np.testing.assert_allclose(scaled, expected, rtol=1e-9)


def within_norm(weights, jacobian, max_norm):
    """TorchJD's limit on the norm of the update, which rescales the weights."""
    return weights * min(1, max_norm / np.linalg.norm(jacobian.T @ weights))


@pytest.mark.parametrize("name", names("nashmtl_*"))
def test_bargaining_weights_follow_the_reference(name):
    golden = load(name)
    for step in golden.steps:
        jacobian = np.array(step["jacobian"])
        weights = nash_bargaining(jacobian @ jacobian.T)
        if golden.source.project == "TorchJD":
            weights = within_norm(weights, jacobian, golden.hyperparameters["max_norm"])
        np.testing.assert_allclose(weights, step["weights"], rtol=golden.rtol, atol=golden.atol)


@pytest.mark.parametrize("name", names("fairgrad_*"))
def test_fair_weights_follow_the_reference(name):
    golden = load(name)
    for step in golden.steps:
        jacobian = np.array(step["jacobian"])
        weights = alpha_fairness(jacobian @ jacobian.T, golden.hyperparameters["alpha"])
        np.testing.assert_allclose(weights, step["weights"], rtol=golden.rtol, atol=golden.atol)
