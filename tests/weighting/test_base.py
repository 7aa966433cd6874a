from __future__ import annotations

import copy

import pytest
import torch

import equipoise as eq
from tests.models import MultiHead, batch, flat_grad


def test_a_weighting_runs_one_backward_pass() -> None:
    model = MultiHead(4)
    passes = []
    model.trunk[0].register_full_backward_hook(lambda *_: passes.append(1))
    eq.Uncertainty(4).backward(model(batch().requires_grad_()))
    assert len(passes) == 1


def test_the_graph_is_freed_unless_retained() -> None:
    model = MultiHead(2)
    losses = model(batch())
    eq.Equal(2).backward(losses, retain_graph=True)
    eq.Equal(2).backward(losses)
    with pytest.raises(RuntimeError, match="second time"):
        eq.Equal(2).backward(losses)


def test_backward_goes_through_a_given_callable_once_with_the_balanced_loss() -> None:
    model = MultiHead(2)
    x = batch()
    eq.Fixed(2, [1.0, 3.0]).backward(model(x))
    expected = flat_grad(list(model.parameters()))
    model.zero_grad()
    seen = []

    def backward(loss: torch.Tensor) -> None:
        seen.append(loss)
        (loss / 4).backward()

    eq.Fixed(2, [1.0, 3.0]).backward(model(x), backward=backward)
    assert len(seen) == 1
    torch.testing.assert_close(flat_grad(list(model.parameters())) * 4, expected)


def test_a_scaler_scales_gradients_and_nothing_else() -> None:
    model = MultiHead(2, dtype=torch.float32)
    x = batch(dtype=torch.float32)
    plain = eq.Uncertainty(2)
    plain.backward(model(x))
    expected = flat_grad(list(model.parameters()))
    model.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled = eq.Uncertainty(2)
    scaled.backward(model(x), scaler=scaler)
    torch.testing.assert_close(flat_grad(list(model.parameters())), expected * 1024)
    assert torch.equal(scaled.log_variances, plain.log_variances)


def test_scaler_and_callable_together_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        eq.Equal(1).backward(
            [torch.ones((), requires_grad=True)],
            scaler=torch.amp.GradScaler("cpu"),
            backward=torch.Tensor.backward,
        )


def test_lbfgs_closures_run_frozen_and_equal_the_plain_sum() -> None:
    plain = MultiHead(2)
    balanced = copy.deepcopy(plain)
    x, balancer = batch(), eq.Equal(2)

    def fit(model, backward):
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)

        def closure():
            optimizer.zero_grad()
            losses = model(x)
            backward(losses)
            return sum(losses).detach()

        for _ in range(3):
            optimizer.step(closure)

    fit(plain, lambda losses: sum(losses).backward())
    with balancer.frozen():
        fit(balanced, balancer.backward)
    for p, q in zip(plain.parameters(), balanced.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
