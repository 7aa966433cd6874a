"""Long training with losses that go bad: nothing is poisoned, everything is counted."""

from __future__ import annotations

import copy
import random

import pytest
import torch

import equipoise as eq
from tests.methods import NAMES, make, of_kind
from tests.models import MultiHead, batch

STEPS = 400  # times all methods: more than twenty thousand steps


def harmed(losses: list[torch.Tensor], draw: random.Random) -> tuple[list[torch.Tensor], int]:
    """One loss made NaN, infinite, or of another scale; how many are not finite now."""
    which = draw.randrange(len(losses))
    kind = draw.choice(["nan", "inf", "-inf", "huge", "tiny", "zero"])
    factor = {"huge": 1e12, "tiny": 1e-12, "zero": 0.0}.get(kind, float("nan"))
    losses = list(losses)
    losses[which] = losses[which] * (factor if kind in ("huge", "tiny", "zero") else float(kind))
    return losses, int(kind in ("nan", "inf", "-inf"))


def step_down(model: MultiHead, optimizer: torch.optim.Optimizer) -> None:
    """A step that survives any gradient, so that the model lives on to the next."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.nan_to_num_(0.0, 0.0, 0.0).clamp_(-1, 1)
    optimizer.step()


def infinite(balancer: eq.Balancer) -> list[str]:
    state = balancer.state_dict().items()
    return [key for key, t in state if isinstance(t, torch.Tensor) and bool(t.isinf().any())]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:.*oss .* is exactly zero")
def test_thousands_of_hostile_steps_poison_nothing(name) -> None:
    draw = random.Random(name)
    torch.manual_seed(4)
    model, balancer = MultiHead(3), make(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    bad = 0
    for step in range(STEPS):
        losses, spoiled = model(batch(4)), 0
        if 100 <= step < 200:
            losses[1] = losses[1] * 0.0
        if draw.random() < 0.2:
            losses, spoiled = harmed(losses, draw)
        bad += spoiled
        optimizer.zero_grad()
        record = balancer.backward(losses)
        assert bool(record.losses.isfinite().all()) != bool(spoiled)
        assert spoiled or record.weights.isfinite().all()
        step_down(model, optimizer)
        assert infinite(balancer) == [], step
    assert int(balancer.skipped.sum()) >= bad > 0
    balancer.backward(model(batch()))
    assert balancer.last.weights.isfinite().all()


@pytest.mark.slow
def test_mtadam_survives_thousands_of_hostile_steps() -> None:
    draw = random.Random("mtadam")
    model = MultiHead(3)
    optimizer = eq.MTAdam(model.parameters(), lr=1e-3, losses=3)
    bad = 0
    for _ in range(2000):
        before = copy.deepcopy([p.detach() for p in model.parameters()])
        losses, spoiled = model(batch(4)), 0
        if draw.random() < 0.2:
            losses, spoiled = harmed(losses, draw)
        bad += spoiled
        optimizer.zero_grad()
        optimizer.backward(losses)
        optimizer.step()
        same = all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
        assert same == bool(spoiled)
        assert all(p.isfinite().all() for p in model.parameters())
    assert optimizer.skipped == bad


@pytest.mark.parametrize("name", of_kind(weighting=True))
@pytest.mark.filterwarnings("ignore:.*oss .* is exactly zero")
def test_a_loss_that_is_exactly_zero_for_long_comes_back(name) -> None:
    model = MultiHead(3)
    balancer = make(name)
    for step in range(30):
        losses = model(batch())
        if step < 25:
            losses[2] = losses[2] * 0.0
        balancer.backward(losses)
    assert balancer.last.weights.isfinite().all()
