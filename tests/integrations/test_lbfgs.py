from __future__ import annotations

import copy

import pytest
import torch

import equipoise as eq
from tests.integrations.loops import ThreeLosses, balancer_of, batches, difference
from tests.methods import of_kind

# Where a method gives a loss's own parameters its plain gradient, one balanced loss cannot say so.
WITH_A_LOSS = [
    name
    for name in of_kind(weighting=True)
    if getattr(balancer_of(name), "heads", "weighted") == "weighted"
]


def lbfgs(model):
    return torch.optim.LBFGS(model.parameters(), max_iter=8, line_search_fn="strong_wolfe")


def after_adam(name):
    """A model and a balancer that has learned for a few steps."""
    model, balancer = ThreeLosses(), balancer_of(name)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    for x in batches(3):
        adam.zero_grad()
        balancer.backward(model(x))
        adam.step()
    return model, balancer


def step(model, balancer, optimizer, x):
    """One step of L-BFGS whose closure balances frozen; returns the weights of each evaluation."""
    seen = []

    def closure():
        optimizer.zero_grad()
        with balancer.frozen():
            loss = balancer(model(x))
        loss.backward()
        seen.append(balancer.last.weights.clone())
        return loss

    optimizer.step(closure)
    return torch.stack(seen)


@pytest.mark.parametrize("name", WITH_A_LOSS)
def test_weights_stand_still_inside_a_step_and_its_closure_teaches_nothing(name) -> None:
    (model, balancer), x = after_adam(name), batches(4)[-1]
    balancer(model(x))
    state = copy.deepcopy(balancer.state_dict())
    seen = step(model, balancer, lbfgs(model), x)
    assert len(seen) > 2
    assert (seen == seen[0]).all()
    for key, value in balancer.state_dict().items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, state[key], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", WITH_A_LOSS)
def test_after_adam_a_step_equals_one_on_the_loss_with_those_weights_written_out(name) -> None:
    (model, balancer), x = after_adam(name), batches(4)[-1]
    expected = copy.deepcopy(model)
    balancer(model(x))
    weights = balancer.weights
    optimizer = lbfgs(expected)

    def closure():
        optimizer.zero_grad()
        losses = expected(x)
        loss = sum(weights[key] * losses[key] for key in losses)
        loss.backward()
        return loss

    optimizer.step(closure)
    step(model, balancer, lbfgs(model), x)
    assert difference(expected, model) < 1e-6


def test_frozen_backward_in_a_closure_gives_the_gradient_of_the_balanced_loss() -> None:
    (model, balancer), x = after_adam("mgda"), batches(4)[-1]
    other = copy.deepcopy(model)
    model.zero_grad()
    with balancer.frozen():
        balancer.backward(model(x))
        balancer(other(x)).backward()
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad)


@pytest.mark.parametrize("name", WITH_A_LOSS)
def test_settled_weights_rest_whatever_is_called_and_are_refused_if_negative(name) -> None:
    (model, balancer), x = after_adam(name), batches(4)[-1]
    resting = (balancer.resting * balancer.factors).clone()
    if (resting < 0).any():
        with pytest.raises(ValueError, match="are negative"), balancer.settled():
            pass
        return
    state = copy.deepcopy(balancer.state_dict())
    with balancer.settled():
        step(model, balancer, lbfgs(model), x)
        balancer.backward(model(x))
    for key, value in balancer.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0, equal_nan=True)
    assert balancer.learning


def test_settled_refuses_a_negative_weight_by_name_and_what_is_no_weighting() -> None:
    balancer = eq.Fixed(["residual", "boundary"], [1.0, -0.5])
    with pytest.raises(ValueError, match=r"'boundary' \(-0.5\)"), balancer.settled():
        pass
    with pytest.raises(TypeError, match="GradDrop changes gradients"), eq.GradDrop(2).settled():
        pass
