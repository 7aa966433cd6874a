from __future__ import annotations

import numpy as np
import pytest
import quadprog
from hypothesis import given
from hypothesis import strategies as st

from equipoise.solvers import dual_cone_projection
from tests.golden import load, names
from tests.solvers.gramians import (
    dual_cone_gap,
    hostile_jacobians,
    independent_jacobians,
    random_jacobians,
)

HOSTILE = hostile_jacobians()


@pytest.mark.parametrize("spread", [0.0, 6.0])
def test_optimality_conditions_hold_on_random_jacobians(spread):
    for jacobian in random_jacobians(500, seed=1, spread=spread):
        references = np.eye(len(jacobian))
        projections = dual_cone_projection(jacobian @ jacobian.T, references)
        for reference, weights in zip(references, projections, strict=True):
            assert dual_cone_gap(jacobian, reference, weights) < 1e-9


@pytest.mark.parametrize("rank", [1, 2, 12, 25, 48, 50, 80])
def test_optimality_conditions_hold_for_fifty_losses_of_every_rank(rank):
    jacobian = np.random.default_rng(rank).standard_normal((50, rank))
    reference = np.full(50, 0.02)
    weights = dual_cone_projection(jacobian @ jacobian.T, reference)
    assert dual_cone_gap(jacobian, reference, weights) < 1e-9


def test_equals_a_quadratic_programming_solver():
    for jacobian in independent_jacobians(400, seed=2):
        count = len(jacobian)
        gramian = jacobian @ jacobian.T
        reference = np.random.default_rng(count).uniform(0.1, 1, count)
        expected = quadprog.solve_qp(gramian, np.zeros(count), np.eye(count), reference)[0]
        weights = dual_cone_projection(gramian, reference)
        np.testing.assert_allclose(weights, expected, rtol=1e-8, atol=1e-10)


def test_several_references_equal_one_at_a_time():
    for jacobian in independent_jacobians(100, seed=3):
        gramian = jacobian @ jacobian.T
        references = np.random.default_rng(0).uniform(0, 1, (3, len(jacobian)))
        together = dual_cone_projection(gramian, references)
        one_by_one = [dual_cone_projection(gramian, reference) for reference in references]
        np.testing.assert_allclose(together, one_by_one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", HOSTILE)
def test_degenerate_input_is_solved(name):
    jacobian = HOSTILE[name]
    references = np.vstack([np.eye(len(jacobian)), np.ones(len(jacobian)), 0 * jacobian[:, 0]])
    projections = dual_cone_projection(jacobian @ jacobian.T, references)
    for reference, weights in zip(references, projections, strict=True):
        assert dual_cone_gap(jacobian, reference, weights) < 1e-9


def test_gramian_that_rounding_made_indefinite_still_ends_near_the_solution():
    generator = np.random.default_rng(5)
    for _ in range(200):
        row = generator.standard_normal(30).astype(np.float32)
        jacobian = np.array([row, -row, 2 * row, generator.standard_normal(30)], dtype=np.float32)
        rounded = (jacobian @ jacobian.T).astype(np.float64) * (1 + np.eye(4, k=1) * 1e-6)
        gramian = (rounded + rounded.T) / 2
        weights = dual_cone_projection(gramian, np.ones(4))
        assert dual_cone_gap(jacobian.astype(np.float64), np.ones(4), weights) < 1e-2


def test_gradients_without_conflict_are_left_alone():
    gramian = np.array([[1.0, 0.3], [0.3, 2.0]])
    np.testing.assert_array_equal(dual_cone_projection(gramian, np.ones(2)), np.ones(2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_nonfinite_gramian_gives_nan(value, shape):
    gramian = np.eye(3)
    gramian[0, 0] = value
    weights = dual_cone_projection(gramian, np.ones(shape))
    assert weights.shape == shape
    assert np.isnan(weights).all()


@given(seed=st.integers(0, 2**32 - 1), exponents=st.lists(st.floats(-6, 6), min_size=4, max_size=4))
def test_scaling_a_gradient_scales_its_weight_inversely(seed, exponents):
    jacobian = np.random.default_rng(seed).standard_normal((4, 6))
    factors = 10.0 ** np.array(exponents)
    scaled = jacobian * factors[:, None]
    weights = dual_cone_projection(jacobian @ jacobian.T, np.ones(4))
    np.testing.assert_allclose(
        dual_cone_projection(scaled @ scaled.T, 1 / factors) * factors, weights, rtol=1e-7
    )


def regularised(gramian, norm_eps, reg_eps):
    """What the references project with: relative to the trace, and switched off when small."""
    trace = gramian.trace()
    normalised = gramian / trace if trace >= norm_eps else np.zeros_like(gramian)
    return normalised + reg_eps * np.eye(len(gramian))


@pytest.mark.parametrize("name", [*names("upgrad_*"), *names("dualproj_*")])
def test_weights_follow_the_reference(name):
    golden = load(name)
    options = golden.hyperparameters
    for step in golden.steps:
        jacobian = np.array(step["jacobian"])
        count = len(jacobian)
        given_preference = options.get("pref_vector", "1/T")
        preference = np.full(count, 1 / count) if given_preference == "1/T" else given_preference
        gramian = regularised(jacobian @ jacobian.T, options["norm_eps"], options["reg_eps"])
        references = np.diag(preference) if golden.method == "UPGrad" else np.array([preference])
        weights = dual_cone_projection(gramian, references).sum(0)
        np.testing.assert_allclose(weights, step["weights"], rtol=golden.rtol, atol=golden.atol)
