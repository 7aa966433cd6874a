from __future__ import annotations

import pytest
import torch

from equipoise.weighting.minmax import MinMax
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("minmax_config__*"))
def test_weights_follow_the_reference(name):
    golden = load(name)
    options = golden.hyperparameters
    rule = "adam" if options["use_adam"] else "sgd"
    balancer = MinMax(options["T"], lr=options["lr"], optimizer=rule)
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")


def test_a_step_ascends_on_the_balanced_loss_as_autograd_differentiates_it():
    values = torch.rand(3, dtype=torch.float64)
    logits = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(3 * logits.softmax(0) @ values, logits)
    balancer = MinMax(3, lr=0.1, optimizer="sgd")
    balancer.weigh(values)
    torch.testing.assert_close(balancer.weigh(values), (logits + 0.1 * slope).detach())


def test_softmax_weights_sum_to_the_number_of_losses_and_are_never_negative():
    balancer = MinMax(3, lr=5.0, applied="softmax")
    for _ in range(10):
        weights = balancer.weigh(tensor([1.0, 2.0, 30.0]))
        torch.testing.assert_close(weights.sum(), tensor(3.0))
        assert weights.min() >= 0
    assert weights.argmax() == 2


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="'raw' or 'softmax'"):
        MinMax(2, applied="exp")
