from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.solvers import equal_projection
from tests.golden import load, names
from tests.solvers.gramians import hostile_jacobians, independent_jacobians, lengths

HOSTILE = hostile_jacobians()


def projections(jacobian, weights):
    """Of the combined gradient onto each gradient's direction."""
    return jacobian @ (jacobian.T @ weights) / lengths(jacobian)


def test_projections_are_equal_on_random_jacobians():
    for jacobian in independent_jacobians(1000, seed=1):
        weights = equal_projection(jacobian @ jacobian.T)
        assert weights.sum() == pytest.approx(1, rel=1e-9)
        size = np.abs(weights * lengths(jacobian)).max()
        assert np.ptp(projections(jacobian, weights)) < 1e-11 * size


def test_equals_the_papers_formula():
    for jacobian in independent_jacobians(200, seed=2):
        if len(jacobian) == 1:
            continue
        units = jacobian / lengths(jacobian)[:, None]
        differences = jacobian[0] - jacobian[1:]
        unit_differences = units[0] - units[1:]
        others = jacobian[0] @ unit_differences.T @ np.linalg.inv(differences @ unit_differences.T)
        expected = np.array([1 - others.sum(), *others])
        weights = equal_projection(jacobian @ jacobian.T)
        np.testing.assert_allclose(weights, expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("name", HOSTILE)
def test_degenerate_input_has_equal_projections_and_sum_one(name):
    jacobian = HOSTILE[name]
    weights = equal_projection(jacobian @ jacobian.T)
    assert weights.sum() == pytest.approx(1, rel=1e-9)
    size = np.abs(weights * lengths(jacobian)).max()
    present = np.linalg.norm(jacobian, axis=1) > 0
    if present.any():
        assert np.ptp(projections(jacobian, weights)[present]) < 1e-6 * size


def test_opposite_gradients_cancel():
    gramian = np.outer([1.0, -3.0], [1.0, -3.0])
    np.testing.assert_allclose(equal_projection(gramian), [0.75, 0.25], atol=1e-12)


def test_parallel_gradients_share_by_their_lengths():
    np.testing.assert_allclose(equal_projection(np.outer([1.0, 2.0], [1.0, 2.0])), [2 / 3, 1 / 3])


def test_zero_gradient_is_dropped():
    np.testing.assert_allclose(equal_projection(np.diag([1.0, 0.0, 9.0])), [0.75, 0, 0.25])


def test_all_zero_gradients_give_the_mean():
    np.testing.assert_array_equal(equal_projection(np.zeros((4, 4))), np.full(4, 0.25))


def test_weights_that_sum_to_zero_give_the_mean():
    cosines = np.array([[1.0, 0.9, 0.6], [0.9, 1.0, 0.88], [0.6, 0.88, 1.0]])
    direction = np.linalg.solve(cosines, np.ones(3))
    # The middle entry is negative. This length makes the three weights add up to zero.
    middle = -direction[1] / (direction[0] + direction[2])
    norms = np.array([1.0, middle, 1.0])
    gramian = cosines * norms * norms[:, None]
    np.testing.assert_allclose(equal_projection(gramian), np.full(3, 1 / 3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_gramian_gives_nan(value):
    gramian = np.eye(3)
    gramian[1, 2] = value
    assert np.isnan(equal_projection(gramian)).all()


@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-15, 15))
def test_scale_of_the_gradients_does_not_matter(seed, exponent):
    jacobian = np.random.default_rng(seed).standard_normal((4, 9))
    gramian = jacobian @ jacobian.T
    scaled = equal_projection(gramian * 10.0 ** (2 * exponent))
    np.testing.assert_allclose(scaled, equal_projection(gramian), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in names("imtlg_*") if "conflictfree" not in name])
def test_weights_follow_the_reference(name):
    golden = load(name)
    for step in golden.steps:
        jacobian = np.array(step["jacobian"])
        weights = equal_projection(jacobian @ jacobian.T)
        np.testing.assert_allclose(weights, step["weights"], rtol=golden.rtol, atol=golden.atol)


def test_gradient_follows_conflictfree_where_no_gradient_is_zero():
    golden = load("imtlg_conflictfree")
    for step in golden.steps[:-1]:
        jacobian = np.array(step["jacobian"])
        gradient = jacobian.T @ equal_projection(jacobian @ jacobian.T)
        np.testing.assert_allclose(gradient, step["gradient"], rtol=golden.rtol, atol=golden.atol)
