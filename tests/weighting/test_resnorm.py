from __future__ import annotations

import pytest
import torch

from equipoise.weighting.resnorm import ResNorm
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("resnorm_physicsnemo__*"))
def test_weights_follow_physicsnemo(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = ResNorm(
        len(golden.steps[0]["losses"]),
        alpha=options["alpha"],
        lr=options["lr"],
        optimizer=options["optimizer"],
    )
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")


def test_a_step_descends_on_the_objective_as_autograd_differentiates_it():
    balancer = ResNorm(3, alpha=0.5, lr=0.02, optimizer="sgd")
    first, values = torch.rand(2, 3, dtype=torch.float64) + 0.5
    before = balancer.weigh(first).log().requires_grad_()
    rates = values / first / (values / first).mean()
    objective = (before.exp() * values - values.mean() * rates**0.5).abs().sum()
    (slope,) = torch.autograd.grad(objective, before)
    expected = 3 * (before - 0.02 * slope).softmax(0)
    torch.testing.assert_close(balancer.weigh(values), expected.detach())


def test_weights_sum_to_the_number_of_losses():
    balancer = ResNorm(4, lr=0.3)
    for _ in range(5):
        weights = balancer.weigh(torch.rand(4, dtype=torch.float64))
        torch.testing.assert_close(weights.sum(), tensor(4.0))


def test_a_weight_that_underflowed_stops_no_later_step():
    balancer = ResNorm(2, optimizer="sgd", lr=1.0)
    for _ in range(3):
        assert balancer.weigh(tensor([1e15, 1.0])).isfinite().all()
        assert balancer.skipped.sum() == 0


def test_losses_that_are_exactly_zero_leave_finite_weights():
    balancer = ResNorm(2)
    for values in ([0.0, 1.0], [0.0, 0.0], [1.0, 0.5]):
        assert balancer.weigh(tensor(values)).isfinite().all()
        assert balancer.skipped.sum() == 0
