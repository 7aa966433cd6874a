from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from equipoise.solvers.simplex import simplex_projection


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8))
def test_optimality_conditions_of_the_nearest_point_hold(entries):
    point = np.array(entries)
    nearest = simplex_projection(point)
    assert nearest.min() >= 0
    assert nearest.sum() == pytest.approx(1, abs=1e-9)
    residual = point - nearest
    theta = residual[nearest > 0].max()
    assert residual[nearest > 0] == pytest.approx(theta, abs=1e-9)
    assert residual.max() <= theta + 1e-9


def test_equal_to_a_general_solver():
    point = np.random.default_rng(0).standard_normal(5)
    found = minimize(
        lambda w: ((w - point) ** 2).sum(),
        np.full(5, 0.2),
        bounds=[(0, None)] * 5,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(simplex_projection(point), found.x, atol=1e-6)


def test_huge_points_lose_no_digits_and_points_that_are_not_finite_give_nan():
    np.testing.assert_allclose(simplex_projection(np.array([1e15, 1e15, -1e15])), [0.5, 0.5, 0])
    assert np.isnan(simplex_projection(np.array([np.nan, 1.0]))).all()
