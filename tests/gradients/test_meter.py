from __future__ import annotations

import pytest
import torch

import equipoise as eq
from tests.models import MultiHead, batch, jacobian


@pytest.mark.parametrize("form", ["mapping", "sequence", "tensor"])
def test_measured_gradients_are_the_jacobian_of_the_shared_parameters(form) -> None:
    model = MultiHead(3)
    losses = model(batch())
    given = {
        "mapping": dict(zip("abc", losses, strict=True)),
        "sequence": losses,
        "tensor": torch.stack(losses),
    }[form]
    gradients = eq.measure(given)

    assert len(gradients) == 3
    assert len(list(model.trunk.parameters())) == len(gradients.tensors())
    rows = jacobian(losses, list(model.trunk.parameters()))
    torch.testing.assert_close(gradients.gram(), rows @ rows.T)


def test_measuring_keeps_the_graph_for_a_backward_pass() -> None:
    model = MultiHead(2)
    losses = model(batch())
    eq.measure(losses)
    sum(losses).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_measuring_where_no_loss_reaches_says_so() -> None:
    model = MultiHead(2)
    losses = model(batch())
    elsewhere = torch.ones(2, requires_grad=True) * 2
    with pytest.raises(eq.SharingError, match="No loss reaches"):
        eq.measure(losses, wrt=elsewhere)


def test_rows_can_be_kept_in_lower_precision() -> None:
    model = MultiHead(2, dtype=torch.float32)
    losses = model(batch(dtype=torch.float32))
    low = eq.measure(losses, measuring=eq.Measuring(dtype=torch.bfloat16))
    assert low.matrix().dtype == torch.bfloat16
    torch.testing.assert_close(low.gram(), eq.measure(losses).gram(), rtol=0.05, atol=0.05)
