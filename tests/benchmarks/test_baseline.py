from __future__ import annotations

import torch

from equipoise.benchmarks.baseline import plain_sum
from tests.benchmarks.bench.tiny import tiny


def test_plain_sum_leaves_the_gradient_of_the_sum():
    model = tiny(3)
    plain_sum(model().losses)
    found = [parameter.grad for parameter in model.parameters()]
    expected = torch.autograd.grad(sum(model().losses), tuple(model.parameters()))
    torch.testing.assert_close(found, list(expected))


def test_one_loss_is_a_sum_too():
    loss = torch.ones((), requires_grad=True)
    plain_sum(iter([3 * loss]))
    assert loss.grad == 3
