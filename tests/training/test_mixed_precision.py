"""GradScaler and autocast with every method: the same weights, no state from overflows."""

from __future__ import annotations

import copy

import pytest
import torch

import equipoise as eq
from tests.methods import NAMES, make, of_kind, tensors_of
from tests.models import MultiHead, batch, flat_grad

every_method = pytest.mark.parametrize("name", NAMES)
SCALE = 2.0**16


@every_method
def test_scaled_training_equals_unscaled_training(name) -> None:
    torch.manual_seed(1)
    plain = MultiHead(3, dtype=torch.float32)
    scaled = copy.deepcopy(plain)
    one = make(name)
    other = copy.deepcopy(one)
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    plain_steps = torch.optim.SGD(plain.parameters(), lr=0.01)
    scaled_steps = torch.optim.SGD(scaled.parameters(), lr=0.01)
    for _ in range(4):
        x = batch(dtype=torch.float32)
        plain_steps.zero_grad()
        one.backward(plain(x))
        plain_steps.step()
        scaled_steps.zero_grad()
        other.backward(scaled(x), scaler=scaler)
        scaler.unscale_(scaled_steps)
        found, expected = flat_grad(list(scaled.parameters())), flat_grad(list(plain.parameters()))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(other.last.weights, one.last.weights, rtol=1e-3, atol=1e-4)
        scaler.step(scaled_steps)
        scaler.update()


@every_method
def test_half_precision_autocast_with_a_scaler_trains_close_to_full_precision(name) -> None:
    torch.manual_seed(1)
    # At its default step length the weights of SDMGrad jump between the corners of the simplex.
    options = {"lr": 0.1} if name == "sdmgrad" else {}
    full, half = (make(name, **options) for _ in range(2))
    for mine, theirs in zip(full.modules(), half.modules(), strict=True):
        if hasattr(mine, "generator"):
            theirs.generator.set_state(mine.generator.get_state())
    model, x = MultiHead(3, dtype=torch.float32), batch(dtype=torch.float32)
    full.backward(model(x))
    expected = flat_grad(list(model.trunk.parameters()))
    model.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    with torch.autocast("cpu", dtype=torch.float16):
        losses = [loss.float() for loss in model(x)]
    half.backward(losses, scaler=scaler)
    found = flat_grad(list(model.trunk.parameters())) / 2.0**8
    assert torch.cosine_similarity(found, expected, dim=0) > 0.99 or expected.norm() < 1e-6


@every_method
def test_bfloat16_autocast_trains(name) -> None:
    model = MultiHead(3, dtype=torch.float32)
    balancer = make(name)
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = model(batch(dtype=torch.float32))
        balancer.backward(losses)
        assert all(p.grad.isfinite().all() for p in model.parameters())


class Overflow(torch.autograd.Function):
    """Passes a loss on, and an infinite gradient back, as fp16 does at too large a scale."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * torch.inf


@every_method
@pytest.mark.parametrize("which", [0, 2])
def test_an_overflow_in_one_loss_skips_the_step_and_moves_no_state(name, which) -> None:
    torch.manual_seed(1)
    model = MultiHead(3, dtype=torch.float32)
    balancer = make(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    for _ in range(2):
        optimizer.zero_grad()
        balancer.backward(model(batch(dtype=torch.float32)), scaler=scaler)
        scaler.step(optimizer)
        scaler.update()
    weights_before = {k: v.clone() for k, v in tensors_of(balancer).items()}
    parameters_before = [p.clone() for p in model.parameters()]
    losses = model(batch(dtype=torch.float32))
    losses[which] = Overflow.apply(losses[which])
    optimizer.zero_grad()
    balancer.backward(losses, scaler=scaler)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == SCALE / 2
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), parameters_before, strict=True)
    )
    if name in of_kind(looks_at="losses"):
        return  # it saw finite losses and no gradient
    for key, tensor in tensors_of(balancer).items():
        if key.split(".")[-1] not in ("skipped", "weight_sum", "weight_count"):
            same = torch.equal(tensor.nan_to_num(7e7), weights_before[key].nan_to_num(7e7))
            assert same, key


def test_a_disabled_scaler_changes_nothing() -> None:
    model, x = MultiHead(2), batch()
    eq.MGDA(2).backward(model(x))
    expected = flat_grad(list(model.parameters()))
    model.zero_grad()
    eq.MGDA(2).backward(model(x), scaler=torch.amp.GradScaler("cpu", enabled=False))
    assert torch.equal(flat_grad(list(model.parameters())), expected)
