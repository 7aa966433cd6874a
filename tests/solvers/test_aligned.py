from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.solvers import aligned
from tests.golden import load, names
from tests.solvers.gramians import hostile_jacobians, independent_jacobians

HOSTILE = hostile_jacobians()
SCALES = ["min", "median", "rmse"]


@pytest.mark.parametrize(
    ("scale", "common"),
    [("min", np.min), ("median", lambda s: np.sort(s)[(len(s) - 1) // 2]), ("rmse", np.mean)],
)
def test_principal_components_get_one_length(scale, common):
    for jacobian in independent_jacobians(300, seed=1):
        identity = np.eye(len(jacobian))
        gramian = jacobian @ jacobian.T
        columns = np.array([aligned(gramian, preference, scale) for preference in identity])
        rescaled = columns @ jacobian
        eigenvalue = common(np.linalg.svd(jacobian, compute_uv=False) ** 2)
        np.testing.assert_allclose(
            rescaled @ rescaled.T, eigenvalue * identity, atol=1e-9 * eigenvalue
        )


@pytest.mark.parametrize("scale", SCALES)
def test_equals_the_singular_value_decomposition_of_the_jacobian(scale):
    for jacobian in independent_jacobians(100, seed=2):
        left, values, right = np.linalg.svd(jacobian, full_matrices=False)
        squares = np.sort(values**2)
        eigenvalue = {
            "min": squares[0],
            "median": squares[(len(squares) - 1) // 2],
            "rmse": squares.mean(),
        }[scale]
        preference = np.random.default_rng(0).uniform(0, 1, len(jacobian))
        gradient = jacobian.T @ aligned(jacobian @ jacobian.T, preference, scale)
        expected = np.sqrt(eigenvalue) * (preference @ left @ right)
        np.testing.assert_allclose(gradient, expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("scale", SCALES)
def test_degenerate_input_ends_finite(name, scale):
    jacobian = HOSTILE[name]
    weights = aligned(jacobian @ jacobian.T, np.ones(len(jacobian)), scale)
    assert weights.shape == (len(jacobian),)
    assert np.isfinite(weights).all()


def test_dependent_gradients_are_aligned_within_their_span():
    weights = aligned(np.outer([3.0, 4.0], [3.0, 4.0]), np.ones(2))
    np.testing.assert_allclose(weights, np.array([3.0, 4.0]) * 7 / 25)


def test_zero_gradients_keep_the_preference():
    preference = np.array([0.2, 0.8])
    np.testing.assert_array_equal(aligned(np.zeros((2, 2)), preference), preference)


def test_epsilon_of_the_measuring_dtype_decides_the_rank():
    gramian = np.diag([1.0, 1e-10])
    np.testing.assert_allclose(aligned(gramian, np.ones(2)), [1e-5, 1.0])
    np.testing.assert_allclose(aligned(gramian, np.ones(2), precision=2.0**-23), [1.0, 0.0])


def test_unknown_scale_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match='scale is \'max\'; write "min", "median" or "rmse"'):
        aligned(np.eye(2), np.ones(2), "max")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_gramian_gives_nan(value):
    gramian = np.eye(3)
    gramian[1, 2] = value
    assert np.isnan(aligned(gramian, np.ones(3))).all()


@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-15, 15))
def test_scale_of_the_gradients_does_not_matter(seed, exponent):
    jacobian = np.random.default_rng(seed).standard_normal((4, 9))
    gramian = jacobian @ jacobian.T
    scaled = aligned(gramian * 10.0 ** (2 * exponent), np.ones(4))
    np.testing.assert_allclose(scaled, aligned(gramian, np.ones(4)), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", names("alignedmtl_*"))
def test_weights_follow_the_reference(name):
    golden = load(name)
    options = golden.hyperparameters
    for step in golden.steps:
        jacobian = np.array(step["jacobian"])
        count = len(jacobian)
        preference = options.get("pref_vector", 1.0)
        preference = (
            np.full(count, 1 / count) if preference == "1/T" else preference * np.ones(count)
        )
        weights = aligned(jacobian @ jacobian.T, preference, options["scale_mode"])
        np.testing.assert_allclose(weights, step["weights"], rtol=golden.rtol, atol=golden.atol)
