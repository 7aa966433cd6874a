"""Activation checkpointing: without reentrance every method trains as it does without it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import equipoise as eq
from tests.methods import NAMES, make, of_kind
from tests.models import MultiHead, batch


def heads(model: MultiHead, hidden: torch.Tensor) -> list[torch.Tensor]:
    return [(i + 1) * (head(hidden) - i).square().mean() for i, head in enumerate(model.heads)]


@pytest.mark.parametrize("name", NAMES)
def test_checkpointed_training_equals_plain_training(name) -> None:
    torch.manual_seed(2)
    plain = MultiHead(3)
    checkpointed = copy.deepcopy(plain)
    one = make(name)
    other = copy.deepcopy(one)
    for _ in range(3):
        x = batch()
        one.backward(heads(plain, plain.trunk(x)))
        other.backward(heads(checkpointed, checkpoint(checkpointed.trunk, x, use_reentrant=False)))
    for p, q in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize("name", of_kind(looks_at="gramian"))
def test_reentrant_checkpointing_gets_an_error_that_says_what_to_write(name) -> None:
    model = MultiHead(3)
    hidden = checkpoint(model.trunk, batch().requires_grad_(), use_reentrant=True)
    with pytest.raises(eq.SharingError, match="Write `use_reentrant=False`"):
        make(name, wrt="shared").backward(heads(model, hidden))


def test_weightings_train_with_reentrant_checkpointing_too() -> None:
    model = MultiHead(3)
    hidden = checkpoint(model.trunk, batch().requires_grad_(), use_reentrant=True)
    eq.Uncertainty(3).backward(heads(model, hidden))
    assert all(p.grad is not None for p in model.parameters())
