"""A step with `scale` is that of losses which the user divided; for every method."""

from __future__ import annotations

import copy

import pytest
import torch

import equipoise as eq
from tests.methods import NAMES, make
from tests.models import MultiHead, batch, flat_grad

every_method = pytest.mark.parametrize("name", NAMES)
WRAPPED = {
    "primary": lambda inner: eq.Primary(inner, "a"),
    "shares": lambda inner: eq.Shares(inner, [1] * 5),
    "behind": eq.Behind,
}


def stretched(model, x):
    """Losses of very different scale."""
    losses = model(x)
    scales = zip("abcde", (1e3, 1.0, 1e-2, 30.0, 1e-4), losses, strict=True)
    return {name: scale * (loss + 0.1) for name, scale, loss in scales}


def steps(balancer, model, divisors=None, absent=()):
    """Some steps of training; the losses divided by hand where divisors are given."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    gradients = []
    for step in range(4):
        torch.manual_seed(step)
        losses = stretched(model, batch())
        if step in absent:
            del losses["c"]
        if divisors is not None:
            losses = {name: loss / divisors[name] for name, loss in losses.items()}
        optimizer.zero_grad()
        torch.manual_seed(step)
        balancer.backward(losses)
        gradients.append(flat_grad(model.parameters()).clone())
        optimizer.step()
    return torch.stack(gradients)


def first_values(model):
    torch.manual_seed(0)
    return {name: loss.detach().abs() for name, loss in stretched(model, batch()).items()}


@every_method
@pytest.mark.filterwarnings("ignore")
def test_a_step_is_that_of_losses_divided_by_their_first_values(name) -> None:
    torch.manual_seed(0)
    model = MultiHead(5)
    torch.manual_seed(1)
    scaled = make(name, list("abcde"), scale="first_value")
    torch.manual_seed(1)
    plain = make(name, list("abcde"))
    found, expected = steps(scaled, model), steps(plain, model, first_values(model))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.filterwarnings("ignore")
def test_wrappers_go_on_top_of_a_scaled_balancer(wrap) -> None:
    model = MultiHead(5)
    scaled = wrap(eq.UPGrad(list("abcde"), scale="first_value"))
    plain = wrap(eq.UPGrad(list("abcde")))
    found, expected = steps(scaled, model), steps(plain, model, first_values(model))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_weights_and_record_tell_what_was_multiplied_and_divided() -> None:
    parameter = torch.ones(2, requires_grad=True)
    balancer = eq.Fixed(["a", "b"], [3.0, 1.0], scale="first_value")
    record = balancer.backward({"a": 4 * parameter.sum(), "b": -0.5 * parameter.prod()})
    assert record.losses.tolist() == [8.0, -0.5]
    assert record.scale.tolist() == [8.0, 0.5]
    assert record.weights.tolist() == [3 / 8, 2.0]
    assert record.report()["scale/a"] == 8.0
    assert balancer({"a": 4 * parameter.sum(), "b": 5 * parameter.prod()}).item() == 3 + 10


def test_the_mean_of_the_first_values_settles_after_as_many_as_were_asked_for() -> None:
    balancer, parameter = (
        eq.Equal(["a"], scale=("first_value", 2)),
        torch.ones((), requires_grad=True),
    )
    told = [float(balancer.backward({"a": v * parameter}).scale) for v in (2.0, 4.0, 100.0)]
    assert told == [2.0, 3.0, 3.0]


def test_a_loss_that_comes_later_starts_later_and_zeros_tell_no_scale() -> None:
    balancer, parameter = (
        eq.Equal(["a", "b"], scale="first_value"),
        torch.ones((), requires_grad=True),
    )
    balancer.backward({"a": 2 * parameter})
    balancer.backward({"a": 4 * parameter, "b": 0 * parameter})
    record = balancer.backward({"a": 8 * parameter, "b": 5 * parameter})
    assert record.scale.tolist() == [2.0, 5.0]


def test_nothing_is_learned_of_a_scale_where_nothing_is_learned() -> None:
    balancer, parameter = eq.Equal(["a"], scale="first_value"), torch.ones((), requires_grad=True)
    with torch.no_grad():
        balancer({"a": 7 * parameter})
    with balancer.frozen():
        balancer.backward({"a": 7 * parameter})
    balancer.backward({"a": torch.nan * parameter})
    assert float(balancer.backward({"a": 2 * parameter}).scale) == 2.0


def test_the_scale_is_saved() -> None:
    first, parameter = eq.Equal(["a"], scale="first_value"), torch.ones((), requires_grad=True)
    first.backward({"a": 2 * parameter})
    second = eq.Equal(["a"], scale=["first_value", 1])
    second.load_state_dict(first.state_dict())
    assert float(second.backward({"a": 9 * parameter}).scale) == 2.0


@pytest.mark.parametrize(
    "scale",
    ["first", ("first_value", 0), ("first_value", 1.5), ("first_value", True), 3, ("a", 1, 2)],
)
def test_what_is_no_scale_is_refused(scale) -> None:
    with pytest.raises(ValueError, match="'first_value'"):
        eq.Equal(2, scale=scale)
