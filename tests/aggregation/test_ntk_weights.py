from __future__ import annotations

import pytest
import torch

from equipoise.aggregation.ntk_weights import NTKWeights
from equipoise.gradients.gradients import Gradients
from tests.golden import assert_matches, load, tensor


def test_weights_follow_physicsnemo_where_each_step_updates():
    golden = load("ntk_physicsnemo__every1")
    balancer = NTKWeights(golden.hyperparameters["T"])
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]), Gradients(tensor(step["jacobian"])))
        assert_matches(golden, weights, step["weights"], f"step {index}")


def test_weights_follow_physicsnemo_between_updates_but_for_its_zeros():
    golden = load("ntk_physicsnemo__every3")
    options = golden.hyperparameters
    balancer = NTKWeights(options["T"], every=options["run_per_step"])
    theta = torch.zeros(len(golden.steps[0]["jacobian"][0]), dtype=torch.float64)
    theta.requires_grad_()
    for index, step in enumerate(golden.steps):
        rows = tensor(step["jacobian"])
        losses = [value + row @ theta for value, row in zip(tensor(step["losses"]), rows, strict=1)]
        weights = balancer.backward(losses, wrt=theta).weights
        awaited = step["weights"] if index >= options["run_per_step"] else [1.0] * options["T"]
        assert_matches(golden, weights, awaited, f"step {index}")


def test_kernels_are_the_gradient_norms_of_the_roots_of_the_losses():
    theta = torch.rand(4, dtype=torch.float64, requires_grad=True)
    balancer = NTKWeights(2)
    for _ in range(2):
        losses = [theta.square().sum(), (theta.sin() + 2).prod()]
        weights = balancer.backward(losses, retain_graph=True).weights
    norms = [
        torch.autograd.grad(loss.sqrt(), theta, retain_graph=True)[0].norm() for loss in losses
    ]
    kernels = torch.stack(norms)
    torch.testing.assert_close(weights, kernels.sum() / kernels)


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.0, 0.0]])
def test_a_loss_and_gradient_of_exactly_zero_have_weight_one(values):
    balancer = NTKWeights(2)
    gradients = Gradients(tensor([[0.0, 0.0], [1.0, 2.0]]))
    for _ in range(2):
        weights = balancer.weigh(tensor(values), gradients)
    assert weights[0] == 1
    assert weights.isfinite().all()
