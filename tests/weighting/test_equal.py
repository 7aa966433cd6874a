from __future__ import annotations

import torch

import equipoise as eq
from tests.golden import assert_matches, load, tensor
from tests.models import MultiHead, batch


def test_equal_weights_are_libmtl_s_sum() -> None:
    golden = load("ew_libmtl")
    for step in golden.steps:
        values = tensor(step["losses"])
        assert_matches(golden, eq.Equal(len(values)).weigh(values), step["weights"])


def test_its_gradients_are_those_of_the_plain_sum_bit_for_bit() -> None:
    model, inputs = MultiHead(), batch()
    sum(model(inputs)).backward()
    plain = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    eq.Equal(3).backward(model(inputs))
    for parameter, expected in zip(model.parameters(), plain, strict=True):
        assert torch.equal(parameter.grad, expected)


def test_priorities_are_its_weights() -> None:
    balancer = eq.Equal(["a", "b"], priorities={"b": 0.25})
    record = balancer.backward(list(torch.ones(2, requires_grad=True) * 3))
    assert balancer.weights == {"a": 1.0, "b": 0.25}
    assert record.total.item() == 6.0
