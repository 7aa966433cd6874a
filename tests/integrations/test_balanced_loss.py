from __future__ import annotations

import pytest
import torch

import equipoise as eq
from equipoise.integrations.balanced_loss import balanced_loss
from tests.integrations.loops import LOSSES, ThreeLosses, balancer_of, batches
from tests.methods import NAMES
from tests.models import flat_grad


@pytest.mark.parametrize("factor", [1.0, 0.25, 1024.0])
@pytest.mark.parametrize("name", NAMES)
def test_going_backward_is_the_balancers_backward_times_what_the_scalar_was_multiplied_with(
    name, factor
) -> None:
    (x,) = batches(1)
    model, plain = ThreeLosses(), ThreeLosses()
    loss = balanced_loss(balancer_of(name), model(x))
    (loss * factor).backward()
    expected = balancer_of(name)
    expected.backward(plain(x))
    found, reference = (flat_grad(list(m.parameters())) for m in (model, plain))
    torch.testing.assert_close(found, reference * factor, rtol=1e-9, atol=1e-9)


def test_its_value_is_the_plain_sum() -> None:
    (x,), model = batches(1), ThreeLosses()
    losses = model(x)
    torch.testing.assert_close(
        balanced_loss(eq.GradDrop(LOSSES), losses).detach(), sum(losses.values()).detach()
    )


def test_whether_it_learns_is_decided_when_it_is_made() -> None:
    (x,), model, balancer = batches(1), ThreeLosses(), eq.GradNorm(LOSSES)
    with balancer.frozen():
        loss = balanced_loss(balancer, model(x))
    loss.backward()
    assert balancer.state_dict()["calls"] == 0


def test_an_absent_loss_is_left_out() -> None:
    (x,), model = batches(1), ThreeLosses()
    losses = {**model(x), "b": None}
    loss = balanced_loss(eq.Equal(LOSSES), losses)
    loss.backward()
    assert loss.item() == pytest.approx((losses["a"] + losses["c"]).item())
    assert model.net.heads[1].weight.grad is None


def test_without_gradients_it_is_the_plain_sum_and_teaches_nothing() -> None:
    (x,), model, balancer = batches(1), ThreeLosses(), eq.GradNorm(LOSSES)
    with torch.no_grad():
        loss = balanced_loss(balancer, model(x))
    assert not loss.requires_grad
    assert balancer.last is None
