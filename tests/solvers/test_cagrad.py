from __future__ import annotations

import cvxpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.solvers import cagrad_weights, min_norm_point
from tests.golden import load, names
from tests.solvers.gramians import cagrad_objective, hostile_jacobians, random_jacobians

HOSTILE = hostile_jacobians()


def duality_gap(jacobian, c, weights):
    """Objective less the primal value of the update that `weights` give, relative to both."""
    mean, combined = jacobian.mean(0), jacobian.T @ weights
    radius = c * np.linalg.norm(mean)
    update = mean + radius * combined / np.linalg.norm(combined)
    objective = cagrad_objective(jacobian, c, weights)
    return (objective - (jacobian @ update).min()) / (np.abs(jacobian @ mean).max() + radius)


@pytest.mark.parametrize("c", [0.1, 0.4, 0.9, 1.5])
def test_duality_gap_is_closed_on_random_jacobians(c):
    solved = 0
    for jacobian in random_jacobians(600, seed=1):
        weights = cagrad_weights(jacobian @ jacobian.T, c)
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        norm = np.linalg.norm(jacobian.T @ weights) / np.linalg.norm(jacobian)
        if norm > 1e-4:
            assert duality_gap(jacobian, c, weights) < 1e-9
            solved += 1
    assert solved > 300


def test_is_at_least_as_low_as_a_conic_solver():
    generator = np.random.default_rng(2)
    for jacobian in random_jacobians(100, seed=2, spread=1.0):
        c = float(generator.choice([0.1, 0.4, 0.9, 1.5]))
        mean = jacobian.mean(0)
        variable = cvxpy.Variable(len(jacobian))
        radius = c * np.linalg.norm(mean)
        objective = (jacobian @ mean) @ variable + radius * cvxpy.norm(jacobian.T @ variable)
        constraints = [variable >= 0, cvxpy.sum(variable) == 1]
        cvxpy.Problem(cvxpy.Minimize(objective), constraints).solve(cvxpy.CLARABEL)
        reference = np.maximum(variable.value, 0)
        found = cagrad_objective(jacobian, c, cagrad_weights(jacobian @ jacobian.T, c))
        lowest = cagrad_objective(jacobian, c, reference / reference.sum())
        scale = np.abs(jacobian @ mean).max()
        assert (found - lowest) / scale < 1e-10
        # The reference's own tolerance; it shows that both solve the same problem.
        assert (lowest - found) / scale < 1e-5


def test_two_losses_equal_a_search_over_the_segment():
    shares = np.linspace(0, 1, 20001)
    for jacobian in random_jacobians(100, seed=3):
        pair = np.array([jacobian[0], jacobian[-1] + 0.1])
        found = cagrad_objective(pair, 0.5, cagrad_weights(pair @ pair.T, 0.5))
        values = [
            cagrad_objective(pair, 0.5, np.array([share, 1 - share])) for share in shares[::10]
        ]
        assert found <= min(values) + 1e-12 * np.abs(pair @ pair.T).max()


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("c", [0.0, 0.4, 1.0])
def test_degenerate_input_is_not_beaten_by_any_candidate(name, c):
    jacobian = HOSTILE[name]
    count = len(jacobian)
    gramian = jacobian @ jacobian.T
    weights = cagrad_weights(gramian, c)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    candidates = [*np.eye(count), np.full(count, 1 / count), min_norm_point(gramian)]
    candidates += list(np.random.default_rng(0).dirichlet(np.full(count, 0.3), 300))
    lowest = min(cagrad_objective(jacobian, c, candidate) for candidate in candidates)
    scale = np.abs(jacobian @ jacobian.mean(0)).max()
    assert cagrad_objective(jacobian, c, weights) <= lowest + 1e-8 * scale


def test_radius_beyond_which_cancelling_is_not_optimal():
    # With c < 1 the ball around g_0 has no descent direction for both, and moving along g_0 pays.
    gramian = np.outer([1.0, -3.0], [1.0, -3.0])
    np.testing.assert_allclose(cagrad_weights(gramian, 0.9), [1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(cagrad_weights(gramian, 1.1), [0.75, 0.25], atol=1e-7)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_gramian_gives_nan(value):
    gramian = np.eye(3)
    gramian[1, 2] = value
    assert np.isnan(cagrad_weights(gramian, 0.5)).all()


@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-15, 15))
def test_scale_of_the_gradients_does_not_matter(seed, exponent):
    jacobian = np.random.default_rng(seed).standard_normal((4, 6))
    gramian = jacobian @ jacobian.T
    scaled = cagrad_weights(gramian * 10.0 ** (2 * exponent), 0.5)
    np.testing.assert_allclose(scaled, cagrad_weights(gramian, 0.5), atol=1e-8)


def update(jacobian, c, weights):
    mean, combined = jacobian.mean(0), jacobian.T @ weights
    return mean + c * np.linalg.norm(mean) / np.linalg.norm(combined) * combined


@pytest.mark.parametrize("name", names("cagrad_*"))
def test_update_follows_the_reference(name):
    golden = load(name)
    options = golden.hyperparameters
    c = options.get("c", options.get("calpha"))
    for step in golden.steps:
        jacobian = np.array(step["jacobian"])
        shrink = {0: 1, 1: 1 + c**2, 2: 1 + c}[options.get("rescale", 0)]
        factor = len(jacobian) if "nash-mtl" in golden.source.project else 1
        weights = cagrad_weights(jacobian @ jacobian.T, c)
        np.testing.assert_allclose(
            update(jacobian, c, weights) * factor / shrink,
            step["gradient"],
            rtol=golden.rtol,
            atol=golden.atol,
        )
