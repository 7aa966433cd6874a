"""Gradient accumulation: frozen micro-batches, then one that learns."""

from __future__ import annotations

import pytest
import torch

import equipoise as eq
from tests.methods import NAMES, make, of_kind
from tests.models import MultiHead, batch, flat_grad


@pytest.mark.parametrize("name", of_kind(weighting=True))
def test_frozen_micro_batches_add_up_to_the_big_batch(name) -> None:
    """With the weights standing still, accumulation is linear: equal to the whole batch."""
    model, x = MultiHead(3), batch(8)
    balancer = make(name)
    balancer.backward(model(batch(8)))
    with balancer.frozen():
        model.zero_grad()
        balancer.backward(model(x))
        whole = flat_grad(list(model.parameters()))
        model.zero_grad()
        for part in x.chunk(4):
            balancer.backward([loss / 4 for loss in model(part)])
    torch.testing.assert_close(flat_grad(list(model.parameters())), whole)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_learning_micro_batch_moves_the_state(name) -> None:
    model = MultiHead(3)
    balancer = make(name)
    for _ in range(2):
        with balancer.frozen():
            for _ in range(3):
                balancer.backward(model(batch(4)))
        balancer.backward(model(batch(4)))
    assert balancer._calls == 2
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_weights_learned_from_one_micro_batch_serve_the_next_ones() -> None:
    """What is learned comes from the micro-batch outside `frozen`, not from the mean."""
    model = MultiHead(2)
    balancer, alone = eq.GradNorm(2), eq.GradNorm(2)
    x = batch(8)
    first, last = x.chunk(2)
    with balancer.frozen():
        balancer.backward(model(first))
    assert balancer.weights == {"0": 1.0, "1": 1.0}
    balancer.backward(model(last))
    alone.backward(model(last))
    assert balancer.weights == alone.weights
