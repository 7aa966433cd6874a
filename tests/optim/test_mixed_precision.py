from __future__ import annotations

import pytest
import torch

from equipoise.optim import AutoBalance, MTAdam, MultiAdam
from tests.optim.training import TwoHeads, assert_equal_models, batches, train
from tests.releases import rounds_bfloat16_as_today

KINDS = pytest.mark.parametrize("kind", [MTAdam, AutoBalance, MultiAdam])
STEPS = 20


def train_under_autocast(kind, dtype, scale=None):
    model = TwoHeads(torch.float32)
    optimizer = kind(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    done = 0
    for x in batches(STEPS, torch.float32):
        while True:
            before = scaler.get_scale()
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=dtype):
                losses = model(x)
            optimizer.backward(losses, scaler=scaler)
            scaler.step(optimizer)
            scaler.update()
            if scaler.get_scale() >= before:
                break
            done += 1
    return model, optimizer, scaler, done


def train_in_full(kind):
    model = TwoHeads(torch.float32)
    train(model, kind(model.parameters(), lr=0.01), batches(STEPS, torch.float32))
    return model


@rounds_bfloat16_as_today
@KINDS
def test_bfloat16_parameters_train_as_full_ones_to_their_precision(kind):
    half = TwoHeads(torch.float32).to(torch.bfloat16)
    optimizer = kind(half.parameters(), lr=0.01)
    train(half, optimizer, batches(STEPS, torch.bfloat16))
    for p, q in zip(half.parameters(), train_in_full(kind).parameters(), strict=True):
        torch.testing.assert_close(p.float(), q, rtol=0.02, atol=0.04)
        assert optimizer.state[p]["step"].dtype == torch.float32
        if kind is MTAdam:
            assert optimizer.state[p]["norms"].dtype == torch.float32


@KINDS
def test_bfloat16_autocast_trains_close_to_full_precision(kind):
    model, optimizer, _, _ = train_under_autocast(kind, torch.bfloat16)
    assert_equal_models(model, train_in_full(kind), rtol=0.02, atol=0.02)
    assert optimizer.skipped == 0


@KINDS
def test_float16_autocast_with_a_scaler_trains_close_to_full_precision(kind):
    model, optimizer, scaler, overflows = train_under_autocast(kind, torch.float16, 2.0**4)
    assert_equal_models(model, train_in_full(kind), rtol=0.01, atol=0.01)
    assert (optimizer.skipped, overflows, scaler.get_scale()) == (0, 0, 2.0**4)


@KINDS
def test_overflows_in_float16_leave_no_trace(kind):
    spoiled, ours, scaler, overflows = train_under_autocast(kind, torch.float16, 2.0**30)
    assert overflows > 5
    clean, theirs, _, none = train_under_autocast(kind, torch.float16, scaler.get_scale())
    assert none == 0
    assert_equal_models(spoiled, clean)
    for p, q in zip(spoiled.parameters(), clean.parameters(), strict=True):
        assert all(map(torch.equal, ours.state[p].values(), theirs.state[q].values()))


@KINDS
def test_unscaled_gradients_equal_those_without_a_scaler(kind):
    scaled, plain = TwoHeads(torch.float32), TwoHeads(torch.float32)
    ours, theirs = kind(scaled.parameters()), kind(plain.parameters())
    x = batches(1, torch.float32)[0]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    ours.backward(scaled(x), scaler=scaler)
    scaler.unscale_(ours)
    theirs.backward(plain(x))
    for p, q in zip(scaled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-6, atol=0)
