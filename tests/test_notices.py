"""Every method says once what would otherwise go wrong in silence."""

from __future__ import annotations

import warnings

import pytest
import torch

import equipoise as eq
from tests.methods import NAMES, make, of_kind, steps

every_method = pytest.mark.parametrize("name", NAMES)


def changing_sign(count, seed=0):
    """Losses whose sign changes, at one parameter, with generic gradients."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    for step in range(count):
        values = torch.randn(3, generator=generator).double()
        values[1] = -1.0 - step / 100
        rows = torch.randn(3, 6, generator=generator).double()
        losses = [v + r @ theta for v, r in zip(values, rows, strict=True)]
        yield dict(zip("abc", losses, strict=True))


@every_method
def test_a_method_warns_once_of_losses_for_which_it_is_not_defined(name):
    torch.manual_seed(0)
    balancer = make(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for losses in changing_sign(20):
            balancer.backward(losses)
    told = [str(w.message) for w in caught if "not negative" in str(w.message)]
    assert len(told) == (balancer.defined_for == "nonnegative")
    for message in told:
        assert "loss 'b' is -1" in message or "loss 'a'" in message
        assert "take a method" in message


@every_method
@pytest.mark.filterwarnings("ignore")
def test_weights_stay_bounded_for_losses_whose_sign_changes(name):
    torch.manual_seed(0)
    balancer = make(name)
    for losses in changing_sign(200):
        record = balancer.backward(losses)
        assert record.weights.isfinite().all()
        assert record.weights.abs().max() < 1e6


@every_method
def test_losses_that_are_not_negative_are_no_reason_to_warn(name):
    torch.manual_seed(0)
    balancer, theta = make(name), torch.ones(3, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            balancer.backward(dict(zip("abc", theta.exp() * theta.square(), strict=True)))


def with_a_zero(zero, count=12):
    """Positive losses of which one is met by construction, value and gradient."""
    gate = torch.ones(3, dtype=torch.float64).index_fill(0, torch.tensor([zero]), 0)
    for values, rows in steps(count):
        theta = torch.zeros(rows.shape[1], dtype=torch.float64, requires_grad=True)
        yield theta, dict(zip("abc", gate * (values + rows @ theta), strict=True))


def halted_and_told(balancer, zero):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for theta, losses in with_a_zero(zero):
            (plain,) = torch.autograd.grad(sum(losses.values()), theta, retain_graph=True)
            balancer.backward(losses)
    told = [str(w.message) for w in caught if "exactly zero" in str(w.message)]
    return bool(theta.grad.norm() < 1e-3 * plain.norm()), told


@every_method
def test_a_method_that_a_loss_of_exactly_zero_halts_says_so_once(name):
    torch.manual_seed(0)
    balancers = {zero: make(name) for zero in range(3)}
    found = {zero: halted_and_told(balancer, zero) for zero, balancer in balancers.items()}
    declared = balancers[0].halted_by
    for zero, (halted, told) in found.items():
        assert not halted or "abc"[zero] in declared
        assert len(told) == ("abc"[zero] in declared)
        assert all(f"oss {'abc'[zero]!r} is exactly zero" in message for message in told)
    assert any(halted for halted, _ in found.values()) == bool(declared)


@pytest.mark.parametrize("name", of_kind(looks_at="gramian"))
def test_a_value_of_zero_halts_no_method_that_looks_at_gradients(name):
    theta = torch.ones(4, dtype=torch.float64, requires_grad=True)
    losses = {"a": theta.sum() - 4, "b": theta[:2].square().sum(), "c": theta[1:].exp().sum()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(name).backward(losses)


def test_a_gradient_of_zero_is_told_whatever_the_value():
    theta = torch.ones(4, requires_grad=True)
    with pytest.warns(UserWarning, match="The gradient of loss 'a' is exactly zero"):
        eq.MGDA(["a", "b"]).backward({"a": 3 + 0 * theta.sum(), "b": theta.square().sum()})


def test_a_loss_of_zero_that_is_alone_halts_nothing():
    theta = torch.zeros(1, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eq.MGDA(["a", "b"]).backward({"a": theta.sum()})


def test_options_decide_for_which_losses_a_method_is_defined():
    assert eq.STCH(2).defined_for == "all"
    assert eq.STCH(2, form="log").defined_for == "nonnegative"
    assert eq.MGDA(2, normalization="loss").defined_for == "nonnegative"
    assert eq.SoftAdapt(2, variant="loss_weighted").defined_for == "nonnegative"


def repeated(balancer, losses, steps=250):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            balancer.backward(losses())
    return [str(w.message) for w in caught if "learned nothing" in str(w.message)]


@pytest.mark.parametrize("name", ["equal", "uncertainty", "gradnorm", "upgrad", "pcgrad"])
def test_a_loss_that_never_is_finite_is_named_once(name):
    theta = torch.ones(3, requires_grad=True)

    def losses():
        return {"a": theta[0], "b": theta[1] * float("nan"), "c": theta[2]}

    (message,) = repeated(eq.create_balancer(name, ["a", "b", "c"]), losses)
    assert "loss 'b' is not finite" in message


@pytest.mark.parametrize("name", ["gradnorm", "upgrad", "mgda"])
def test_meeting_one_loss_at_a_time_is_named_once(name):
    theta = torch.ones(3, requires_grad=True)
    (message,) = repeated(eq.create_balancer(name, ["a", "b"]), lambda: {"a": theta.sum()})
    assert "only 'a' of 'a', 'b' is there" in message


def test_skipping_every_step_is_named_once():
    theta = torch.ones(1, requires_grad=True)
    balancer = eq.GeometricMean(["a", "b"])
    (message,) = repeated(balancer, lambda: {"a": theta.sum(), "b": -theta.sum()})
    assert "no finite result" in message


def test_a_wrapper_leaves_the_word_to_the_method_below():
    theta = torch.ones(2, requires_grad=True)
    balancer = eq.Primary(eq.UPGrad(["a", "b"]), "a")
    assert repeated(balancer, lambda: {"a": theta[0] + theta[1], "b": theta.sum() ** 2}) == []
    (message,) = repeated(balancer, lambda: {"a": theta.sum(), "b": theta.sum() * float("nan")})
    assert message.startswith("UPGrad has learned nothing")


def test_steps_that_learn_now_and_then_are_no_reason_to_warn():
    theta = torch.ones(2, requires_grad=True)
    balancer = eq.UPGrad(["a", "b"], every=50)
    assert repeated(balancer, lambda: {"a": theta[0] + theta[1], "b": theta.sum() ** 2}) == []
