from __future__ import annotations

import pytest
import torch
from torch import nn

import equipoise as eq


@pytest.mark.parametrize("balancer", [eq.Equal(2), eq.MGDA(2), eq.GradDrop(2)])
def test_a_loss_that_goes_backward_after_another_one_stepped_is_explained_in_a_sentence(
    balancer,
) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first, *others = model(torch.randn(5, 3)).square().mean(0).repeat(2)[:3]
    first.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="an optimizer stepped in between") as caught:
        balancer.backward(others)
    assert "inplace operation" in str(caught.value.__cause__)


def test_mtadam_explains_it_alike() -> None:
    weight = torch.ones(2, requires_grad=True)
    optimizer = eq.MTAdam([weight])
    loss = weight.square().sum()
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="an optimizer stepped in between"):
        optimizer.backward([loss, loss])


def test_another_error_of_autograd_stays_as_it_is() -> None:
    weight = torch.ones(2, requires_grad=True)
    losses = [weight.square().sum(), weight.pow(3).sum()]
    eq.Equal(2).backward(losses)
    with pytest.raises(RuntimeError, match="a second time"):
        eq.Equal(2).backward(losses)
