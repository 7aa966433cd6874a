from __future__ import annotations

import pytest
import torch

from equipoise.gradients.passes import Passes, stack_rows
from tests.models import MultiHead, batch, jacobian


def passes_of(losses, parameters, **options) -> Passes:
    return Passes(losses, parameters, **options)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_stacked_rows_equal_the_jacobian_for_every_chunk(chunk) -> None:
    model = MultiHead(5)
    losses, parameters = model(batch()), list(model.trunk.parameters())
    sizes = [p.numel() for p in parameters]
    out = torch.full((5, sum(sizes)), torch.nan, dtype=torch.float64)
    stack_rows(passes_of(losses, parameters), out, sizes, chunk)
    torch.testing.assert_close(out, jacobian(losses, parameters))


@pytest.mark.parametrize("chunk", [1, 2])
def test_one_pass_also_finds_the_gradient_of_a_loss_s_own_leaves(chunk) -> None:
    model = MultiHead(3)
    losses, parameters = model(batch()), list(model.trunk.parameters())
    own = [tuple(head.parameters()) for head in model.heads]
    passes = passes_of(losses, parameters, own=own)
    sizes = [p.numel() for p in parameters]
    stack_rows(passes, torch.empty(3, sum(sizes), dtype=torch.float64), sizes, chunk)
    for loss, leaves, found in zip(losses, own, passes.own_gradients, strict=True):
        for leaf, gradient in zip(leaves, found, strict=True):
            torch.testing.assert_close(
                gradient, torch.autograd.grad(loss, leaf, retain_graph=True)[0]
            )
