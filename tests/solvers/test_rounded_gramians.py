"""Gramians measured in float32 are positive semidefinite only to 1e-7; promises hold all the same.

Every promise is checked on the gradients themselves, in float64, not on the rounded Gramian.
"""

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
from equipoise.solvers.scaling import norm_bounds
from tests.solvers.gramians import hostile_jacobians, lengths, random_jacobians

SINGLE = float(np.finfo(np.float32).eps)


def nearly_cancelling(count, *, seed):
    """The last gradient is the opposite of the others' sum, to one part in 10 to 10^8."""
    generator = np.random.default_rng(seed)
    for jacobian in random_jacobians(count, seed=seed):
        rest = jacobian[:-1] if len(jacobian) > 1 else jacobian
        noise = 10.0 ** -generator.uniform(1, 8) * generator.standard_normal(jacobian.shape[1])
        yield np.vstack([rest, -rest.sum(0) + noise])


def single_jacobians():
    """Jacobians whose entries float32 holds exactly."""
    jacobians = [*hostile_jacobians().values(), *random_jacobians(200, seed=9, spread=3.0)]
    jacobians += nearly_cancelling(200, seed=11)
    return [jacobian.astype(np.float32).astype(np.float64) for jacobian in jacobians]


def rounded(jacobian):
    single = jacobian.astype(np.float32)
    return (single @ single.T).astype(np.float64)


def smallness(jacobian, weights):
    """The length up to which rounding alone lengthens a combination."""
    return 1e-6 * float(np.abs(weights) @ lengths(jacobian))


@pytest.mark.parametrize(
    "solve",
    [
        min_norm_point,
        lambda gramian: equal_projection(gramian, SINGLE),
        lambda gramian: nash_bargaining(gramian, SINGLE),
        lambda gramian: alpha_fairness(gramian, 0.5, SINGLE),
        lambda gramian: alpha_fairness(gramian, 2.0, SINGLE),
        lambda gramian: cagrad_weights(gramian, 0.4),
        lambda gramian: dual_cone_projection(gramian, np.eye(len(gramian)), SINGLE),
        lambda gramian: aligned(gramian, np.ones(len(gramian)), precision=SINGLE),
    ],
)
def test_every_solver_ends_finite(solve):
    for jacobian in single_jacobians():
        assert np.isfinite(solve(rounded(jacobian))).all()


@pytest.mark.parametrize("solve", [min_norm_point, lambda gramian: cagrad_weights(gramian, 0.4)])
def test_weights_stay_on_the_simplex(solve):
    for jacobian in single_jacobians():
        weights = solve(rounded(jacobian))
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1, abs=1e-12)


def test_min_norm_point_is_optimal_to_the_gramians_accuracy():
    for jacobian in random_jacobians(300, seed=10):
        weights = min_norm_point(rounded(jacobian))
        exact = min_norm_point(jacobian @ jacobian.T)
        size = np.abs(jacobian @ jacobian.T).max()
        found = np.sum((jacobian.T @ weights) ** 2)
        assert found <= np.sum((jacobian.T @ exact) ** 2) + 1e-5 * size


def test_the_bargained_update_is_no_longer_than_the_equation_makes_it():
    for jacobian in single_jacobians():
        weights = nash_bargaining(rounded(jacobian), SINGLE)
        assert weights.min() >= 0
        longest = np.sqrt(len(jacobian)) * (1 + 1e-3)
        assert np.linalg.norm(jacobian.T @ weights) <= longest + smallness(jacobian, weights)


def test_bargained_weights_are_bounded_by_what_the_precision_can_tell_apart():
    for jacobian in single_jacobians():
        weights = nash_bargaining(rounded(jacobian), SINGLE) * lengths(jacobian)
        assert weights.max() <= 1 / np.sqrt(2 * SINGLE)


@pytest.mark.parametrize("kind", ["each", "mean"])
def test_a_projection_on_the_cone_is_no_longer_than_what_is_projected(kind):
    for jacobian in single_jacobians():
        count = len(jacobian)
        references = np.eye(count) if kind == "each" else np.full((1, count), 1 / count)
        found = dual_cone_projection(rounded(jacobian), references, SINGLE)
        for reference, weights in zip(references, found, strict=True):
            longest = np.linalg.norm(jacobian.T @ reference) * (1 + 1e-3)
            slack = 2e-3 * float(reference @ lengths(jacobian)) + smallness(jacobian, weights)
            assert np.linalg.norm(jacobian.T @ weights) <= longest + slack


@pytest.mark.parametrize("kind", ["each", "mean"])
def test_a_projection_on_the_cone_opposes_no_gradient_beyond_rounding(kind):
    for jacobian in single_jacobians():
        count = len(jacobian)
        references = np.eye(count) if kind == "each" else np.full((1, count), 1 / count)
        for weights in dual_cone_projection(rounded(jacobian), references, SINGLE):
            opposed = -(jacobian @ (jacobian.T @ weights) / lengths(jacobian)).min()
            assert opposed <= 4 * count * SINGLE * float(np.abs(weights) @ lengths(jacobian))


def test_equal_projections_sum_to_one_and_do_not_run_away():
    for jacobian in single_jacobians():
        weights = equal_projection(rounded(jacobian), SINGLE)
        assert weights.sum() == pytest.approx(1, abs=1e-5 * max(np.abs(weights).max(), 1))


def test_the_true_norm_lies_within_its_bounds():
    generator = np.random.default_rng(12)
    for jacobian in single_jacobians():
        for weights in generator.standard_normal((3, len(jacobian))):
            least, largest = norm_bounds(rounded(jacobian), weights, SINGLE)
            norm = np.linalg.norm(jacobian.T @ weights)
            assert least <= norm * (1 + 1e-12)
            assert norm <= largest * (1 + 1e-12)
