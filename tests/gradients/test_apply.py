from __future__ import annotations

import pytest
import torch

from equipoise.gradients.apply import Descent, accumulate, surrogate
from equipoise.losses import read_losses


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


def test_weighted_descent_reaches_only_the_named_inputs() -> None:
    one, other = torch.ones((), requires_grad=True), torch.ones((), requires_grad=True)
    terms = read_losses([one * other, one * 3], ("a", "b"))
    Descent().weighted(terms, torch.tensor([2.0, 5.0]), [one])
    assert one.grad == 17.0
    assert other.grad is None


def test_two_ways_of_scaling_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        Descent(scaler=torch.amp.GradScaler("cpu"), backward=torch.Tensor.backward)
