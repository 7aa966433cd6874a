from __future__ import annotations

import pytest
import torch

from equipoise.weighting.geometric_mean import GeometricMean
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("gls_*"))
def test_weights_follow_the_reference(name):
    golden = load(name)
    balancer = GeometricMean(golden.hyperparameters["T"])
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")
        if "loss" in step:  # the geometric mean is homogeneous, so its weighted sum is itself
            assert_matches(golden, weights @ tensor(step["losses"]), step["loss"], f"step {index}")


def test_weights_are_the_derivative_of_the_geometric_mean():
    values = (torch.rand(5, dtype=torch.float64) + 0.1).requires_grad_()
    (expected,) = torch.autograd.grad(values.prod() ** (1 / 5), values)
    torch.testing.assert_close(GeometricMean(5).weigh(values), expected)


def test_scaling_a_loss_scales_all_weighted_losses_alike():
    values = torch.tensor([3.0, 0.2, 7.0], dtype=torch.float64)
    scales = torch.tensor([1e4, 1.0, 1.0], dtype=torch.float64)
    weighted = GeometricMean(3).weigh(values) * values
    rescaled = GeometricMean(3).weigh(values * scales) * values * scales
    torch.testing.assert_close(rescaled, weighted * 1e4 ** (1 / 3))


def test_a_product_beyond_the_range_of_floats_does_not_overflow():
    weights = GeometricMean(8).weigh(torch.full((8,), 1e15))
    torch.testing.assert_close(weights, torch.full((8,), 1 / 8))


def test_a_loss_of_exactly_zero_has_weight_zero_and_stays_finite():
    weights = GeometricMean(2).weigh(torch.tensor([0.0, 1.0]))
    assert weights[0] == 0
    assert 0 < weights[1] < 1e-15


def test_a_negative_loss_leaves_the_last_weights():
    balancer = GeometricMean(2)
    last = balancer.weigh(torch.tensor([4.0, 1.0]))
    torch.testing.assert_close(balancer.weigh(torch.tensor([-4.0, 1.0])), last)
