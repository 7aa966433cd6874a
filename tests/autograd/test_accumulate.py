from __future__ import annotations

import torch

from equipoise.autograd.accumulate import accumulate, surrogate


def test_gradients_are_written_where_there_is_none_and_added_where_there_is() -> None:
    fresh, grown = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    grown.grad = torch.ones(2)
    accumulate([fresh, grown], [torch.ones(2), torch.ones(2)])
    assert fresh.grad.tolist() == [1.0, 1.0]
    assert grown.grad.tolist() == [2.0, 2.0]


def test_the_surrogate_has_the_given_gradients() -> None:
    leaves = [torch.rand(2, requires_grad=True), torch.rand(3, requires_grad=True)]
    gradients = [torch.randn(2), torch.randn(3)]
    surrogate(leaves, gradients).backward()
    for leaf, gradient in zip(leaves, gradients, strict=True):
        assert torch.equal(leaf.grad, gradient)
