from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

import equipoise as eq
from equipoise.schedules import Ramp
from equipoise.wrappers import Primary
from equipoise.wrappers.behind import Behind
from tests import methods
from tests.models import MultiHead, batch, flat_grad, jacobian

LOSSES = methods.LOSSES
SOLVING = methods.of_kind(looks_at="gramian", weighting=True)


def named(model: MultiHead, x: torch.Tensor, absent: str = "") -> dict[str, torch.Tensor]:
    losses = dict(zip(LOSSES, model(x), strict=True))
    return {name: loss for name, loss in losses.items() if name not in absent}


def test_there_are_methods_to_keep_behind() -> None:
    assert {"cagrad", "mgda", "nashmtl", "pcgrad", "upgrad"} <= set(SOLVING)


@pytest.mark.parametrize("name", SOLVING)
def test_the_weights_of_a_step_are_those_a_plain_balancer_found_the_step_before(name) -> None:
    model = MultiHead(3)
    plain = methods.make(name)
    balancer = Behind(copy.deepcopy(plain))
    before = torch.tensor(list(plain.weights.values())).double()
    for _ in range(5):
        losses = named(model, batch())
        record = balancer.backward(losses, retain_graph=True)
        assert torch.equal(record.weights, before)
        before = plain.backward(losses).weights
        model.zero_grad()


@pytest.mark.parametrize("name", SOLVING)
def test_so_are_those_of_its_own_arithmetic(name) -> None:
    plain = methods.make(name)
    balancer = Behind(copy.deepcopy(plain))
    found, expected = [], []
    for values, rows in methods.steps(5):
        found.append(balancer.weigh(values, eq.Gradients(rows)))
        expected.append(plain.weigh(values, eq.Gradients(rows)))
    assert all(torch.equal(a, b) for a, b in zip(found[1:], expected[:-1], strict=True))


def test_they_weigh_the_gradients_of_their_own_step() -> None:
    model = MultiHead(3)
    balancer = Behind(eq.CAGrad(LOSSES))
    balancer.backward(named(model, batch()))
    model.zero_grad()
    x = batch()
    rows = jacobian(model(x), list(model.parameters()))
    record = balancer.backward(named(model, x))
    torch.testing.assert_close(flat_grad(list(model.parameters())), record.weights @ rows)
    trunk = jacobian(model(x), list(model.trunk.parameters()))
    torch.testing.assert_close(record.norms, trunk.norm(dim=1))
    expected = balancer.weights
    model.zero_grad()
    balancer(named(model, batch())).backward()
    assert balancer.weights != expected


@pytest.mark.parametrize("name", SOLVING)
def test_absent_losses_are_absent_a_step_later(name) -> None:
    model = MultiHead(3)
    plain = methods.make(name)
    balancer = Behind(copy.deepcopy(plain))
    last = torch.tensor(list(plain.weights.values())).double()
    for absent in ("", "b", "", "a", "c", ""):
        losses = named(model, batch(), absent)
        record = balancer.backward(losses, retain_graph=True)
        there = torch.tensor([name not in absent for name in LOSSES])
        assert torch.equal(record.weights, torch.where(there, last, 0.0))
        assert record.losses.isnan().tolist() == (~there).tolist()
        plain.backward(losses)
        last = plain.resting.clone()
        model.zero_grad()


@pytest.mark.parametrize("name", SOLVING)
def test_saved_and_resumed_it_goes_on_bit_for_bit(name) -> None:
    model = MultiHead(3)
    batches = [(batch(), absent) for absent in ("", "b", "", "", "c", "", "")]
    straight = Behind(methods.make(name))
    first = copy.deepcopy(straight)
    expected = [straight.backward(named(model, x, absent)).weights for x, absent in batches]
    for x, absent in batches[:2]:
        first.backward(named(model, x, absent))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = Behind(methods.make(name))
    second.load_state_dict(torch.load(file, weights_only=True))
    for again in (second, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):  # noqa: S301
        for (x, absent), weights in zip(batches[2:], expected[2:], strict=True):
            assert torch.equal(again.backward(named(model, x, absent)).weights, weights)


def test_the_options_of_the_method_are_taken_over() -> None:
    model = MultiHead(3)
    options = {
        "every": 2,
        "heads": "plain",
        "wrt": model.trunk[2],
        "priorities": {"a": 0.3, "b": Ramp(1.0, 2.0, steps=4)},
    }
    plain, balancer = eq.CAGrad(LOSSES, **options), Behind(eq.CAGrad(LOSSES, **options))
    measured = []
    for step in range(6):
        x = batch()
        record = balancer.backward(named(model, x))
        found = flat_grad(list(model.parameters()))
        model.zero_grad()
        plain.backward(named(model, x))
        own = flat_grad(list(model.heads.parameters()))
        model.zero_grad()
        torch.testing.assert_close(found[-len(own) :], own)
        measured.append(plain.resting.clone())
        priorities = torch.tensor([0.3, 1 + min(step, 4) / 4, 1.0], dtype=torch.float64)
        before = measured[step - step % 2 - 1] if step > 1 else torch.ones(3).double()
        torch.testing.assert_close(record.weights, before * priorities, rtol=0, atol=0)


def test_numbers_given_to_the_method_are_exact_for_losses_in_double_precision() -> None:
    preference = {"a": 0.3, "b": 0.6, "c": 0.1}
    plain = eq.UPGrad(LOSSES, preference=preference)
    balancer = Behind(copy.deepcopy(plain))
    for values, rows in methods.steps(2):
        balancer.weigh(values, eq.Gradients(rows))
        plain.weigh(values, eq.Gradients(rows))
    assert balancer.balancer.preference.tolist() == [0.3, 0.6, 0.1]
    assert torch.equal(balancer.weigh(values, eq.Gradients(rows)), plain.resting)


def test_frozen_it_learns_nothing_and_keeps_what_is_pending() -> None:
    model = MultiHead(3)
    balancer = Behind(eq.UPGrad(LOSSES))
    balancer.backward(named(model, batch()))
    before = copy.deepcopy(balancer.state_dict())
    with balancer.frozen():
        balancer.backward(named(model, batch()))
    after = balancer.state_dict()
    assert str(after) == str(before)


def test_a_loss_or_gradient_that_is_not_finite_is_left_out() -> None:
    model = MultiHead(3)
    plain, balancer = eq.UPGrad(LOSSES), Behind(eq.UPGrad(LOSSES))
    for step in range(4):
        losses = named(model, batch())
        if step == 1:
            losses["b"] = losses["b"] * torch.nan
        if step == 2:  # a finite value whose gradient is not
            losses["b"] = losses["b"] + (losses["b"] - losses["b"].detach()).sqrt()
        balancer.backward(losses, retain_graph=True)
        plain.backward(losses)
    x = batch()
    balancer.backward(named(model, x))
    assert list(balancer.weights.values()) == pytest.approx(plain.resting.tolist())
    assert all(buffer.isfinite().all() for buffer in balancer.buffers())


def test_it_is_a_balancer_to_put_preferences_on() -> None:
    model = MultiHead(3)
    balancer = Primary(Behind(eq.MGDA(LOSSES)), "a")
    parameters = list(model.parameters())
    for _ in range(3):
        losses = named(model, batch())
        primary = jacobian([losses["a"]], parameters)[0]
        model.zero_grad()
        balancer.backward(losses)
        assert flat_grad(parameters) @ primary >= -1e-10


@pytest.mark.parametrize("name", [n for n in methods.NAMES if n not in SOLVING])
def test_methods_that_solve_no_gramian_are_refused(name) -> None:
    with pytest.raises(TypeError, match="finds no weights from a Gramian"):
        Behind(methods.make(name))
