from __future__ import annotations

import pytest
import torch

from equipoise import Gradients
from equipoise.aggregation.imtl import IMTL
from equipoise.aggregation.imtlg import IMTLG
from tests.aggregation.following import follow_live, independent, seen
from tests.golden import assert_matches, load
from tests.models import MultiHead, batch, flat_grad


def test_trajectory_follows_libmtl_with_adam_on_the_scales():
    golden = load("imtl_libmtl__adam")
    balancer = IMTL(3, lr=golden.hyperparameters["lr"])
    for i, step in enumerate(golden.steps):
        values, gradients = seen(step)
        weights = balancer.weigh(values, gradients)
        assert_matches(golden, weights, step["weights"], f"step {i} weights")
        assert_matches(golden, gradients.combine(weights), step["gradient"], f"step {i}")
        assert_matches(golden, balancer.log_scales, step["state"]["loss_scale"], f"step {i} s")


def test_trajectory_follows_libmtl_with_sgd_on_the_scales():
    golden = load("imtl_hybrid_libmtl")
    balancer = IMTL(3, lr=golden.hyperparameters["lr_loss_scale"], optimizer="sgd")
    for i, step in enumerate(golden.steps):
        values, gradients = seen(step)
        scales = balancer.log_scales.to(values.dtype)
        assert_matches(golden, scales, step["state"]["loss_scale"], f"step {i} s")
        weights = balancer.weigh(values, gradients)
        # LibMTL reports the share of each scaled gradient, without its scale.
        assert_matches(golden, weights / scales.exp(), step["weights"], f"step {i} weights")
        assert_matches(golden, gradients.combine(weights), step["gradient"], f"step {i}")


def test_backward_follows_libmtl():
    golden = load("imtl_libmtl__adam")
    balancer = IMTL(3, lr=golden.hyperparameters["lr"])
    follow_live(golden, balancer)


def test_scales_approach_one_over_the_loss_and_weights_then_ignore_units():
    rows, values = independent(3, 6), torch.tensor([0.2, 1.0, 3.0]).double()
    unit = torch.tensor([1.0, 5.0, 0.2]).double()
    one, other = (IMTL(3, lr=0.1, optimizer="sgd") for _ in range(2))
    for _ in range(400):
        plain = one.combine(values, Gradients(rows))
        rescaled = other.combine(values * unit, Gradients(rows * unit[:, None]))
    torch.testing.assert_close(one.log_scales.exp(), 1 / values)
    torch.testing.assert_close(rescaled, plain)


def test_without_learned_scales_it_is_imtl_g():
    values, gradients = torch.tensor([2.0, 0.5, 1.0]).double(), Gradients(independent(3, 6))
    expected = IMTLG(3).weigh(values, gradients)
    torch.testing.assert_close(IMTL(3).weigh(values, gradients), expected)


def test_a_zero_gradient_and_a_zero_loss_end_finite():
    rows = independent(3, 6)
    rows[0] = 0
    balancer = IMTL(3)
    for _ in range(20):
        weights = balancer.weigh(torch.tensor([1.0, 0.0, 2.0]).double(), Gradients(rows))
        assert weights.isfinite().all()
    assert not balancer.skipped.any()


def test_a_learning_rate_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"`lr` is 0\.0"):
        IMTL(2, lr=0.0)


def test_parameters_of_one_loss_receive_its_plain_gradient_unless_asked_otherwise():
    model, x = MultiHead(3), batch()
    heads = list(model.heads.parameters())
    sum(model(x)).backward()
    expected = flat_grad(heads)
    model.zero_grad()
    IMTL(3).backward(model(x))
    torch.testing.assert_close(flat_grad(heads), expected)
    model.zero_grad()
    IMTL(3, heads="weighted").backward(model(x))
    assert not torch.allclose(flat_grad(heads), expected)


def test_initial_numbers_are_exact_for_losses_in_float64():
    balancer = IMTL(2, initial=[0.1, -0.3])
    assert balancer.log_scales.dtype == torch.float32
    balancer.follow(torch.ones(2).double())
    assert balancer.log_scales.tolist() == [0.1, -0.3]
