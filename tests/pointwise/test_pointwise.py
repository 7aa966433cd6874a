"""Weights of points against slow recomputations in NumPy, and what holds for every kind."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import equipoise as eq
from equipoise.pointwise import Causal, ResidualAttention, SelfAdaptive

POINTS, STEPS = 6, 5
KINDS = {
    "residual attention": lambda: ResidualAttention(POINTS),
    "self-adaptive": lambda: SelfAdaptive(POINTS),
    "self-adaptive, sigmoid": lambda: SelfAdaptive(POINTS, mask="sigmoid", optimizer="sgd"),
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def residuals(step: int, count: int = POINTS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(count, dtype=torch.float64, generator=generator)


def adam(state, gradient, lr):
    state["n"] += 1
    state["m"] = 0.9 * state["m"] + 0.1 * gradient
    state["v"] = 0.999 * state["v"] + 0.001 * gradient**2
    first = state["m"] / (1 - 0.9 ** state["n"])
    return lr * first / (np.sqrt(state["v"] / (1 - 0.999 ** state["n"])) + 1e-8)


def test_residual_attention_is_a_decaying_sum_of_relative_residuals() -> None:
    attention, weights = ResidualAttention(POINTS, gamma=0.9, eta=0.1), np.zeros(POINTS)
    for step in range(STEPS):
        r = residuals(step)
        loss = attention(r)
        weights = 0.9 * weights + 0.1 * np.abs(r.numpy()) / np.abs(r.numpy()).max()
        np.testing.assert_allclose(loss.item(), np.mean((weights * r.numpy()) ** 2), rtol=1e-12)
        np.testing.assert_allclose(attention.weights.numpy(), weights, rtol=1e-12)


@pytest.mark.parametrize("mask", ["square", "sigmoid"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_self_adaptive_weights_ascend_on_the_loss(mask, optimizer) -> None:
    adaptive = SelfAdaptive(POINTS, lr=0.05, mask=mask, optimizer=optimizer, initial=0.7)
    weights = np.full(POINTS, np.float32(0.7), dtype=np.float64)
    state = {"n": 0, "m": np.zeros(POINTS), "v": np.zeros(POINTS)}
    for step in range(STEPS):
        r = residuals(step)
        loss = adaptive(r)
        sigmoid = 1 / (1 + np.exp(-weights))
        slope = 2 * weights if mask == "square" else sigmoid * (1 - sigmoid)
        ascent = slope * r.numpy() ** 2 / POINTS
        weights = weights + (adam(state, ascent, 0.05) if optimizer == "adam" else 0.05 * ascent)
        masked = weights**2 if mask == "square" else 1 / (1 + np.exp(-weights))
        np.testing.assert_allclose(loss.item(), np.mean(masked * r.numpy() ** 2), rtol=1e-10)
        np.testing.assert_allclose(adaptive.weights.numpy(), weights, rtol=1e-10)


@every_kind
def test_the_model_descends_with_weights_that_are_constants(make) -> None:
    module, r = make(), residuals(0).requires_grad_()
    (slope,) = torch.autograd.grad(module(r), r)
    with torch.no_grad():
        moved = module(r + 1e-6 * slope) - module(r - 1e-6 * slope)
    assert moved.item() == pytest.approx(2e-6 * slope.square().sum().item(), rel=1e-5)


@every_kind
def test_points_that_are_not_drawn_rest_and_the_others_go_on_as_by_themselves(make) -> None:
    module, whole = make(), make()
    index = torch.tensor([4, 1])
    for step in range(3):
        module(residuals(step, 2), index)
    before = copy.deepcopy(make().state_dict())
    rest = [0, 2, 3, 5]
    for name, buffer in module.state_dict().items():
        assert torch.equal(buffer[rest], before[name].to(buffer)[rest]), name
    assert not torch.equal(module.weights[index], whole.weights.to(module.weights)[index])


@every_kind
def test_a_resumed_training_goes_on_alike(make) -> None:
    one, other = make(), make()
    for step in range(3):
        one(residuals(step))
    other.load_state_dict(one.state_dict())
    assert all(isinstance(value, torch.Tensor) for value in one.state_dict().values())
    assert torch.allclose(one(residuals(3)), other.double()(residuals(3)), rtol=1e-6)


@every_kind
def test_points_drawn_anew_start_afresh(make) -> None:
    module = make()
    module(residuals(0))
    module.reset(torch.tensor([2]))
    assert module.weights[2] == make().weights[2]
    assert module.weights[1] != make().weights[1]
    module.reset()
    assert torch.equal(module.weights, make().weights.to(module.weights))


@every_kind
def test_nothing_is_learned_without_gradients_or_in_evaluation(make) -> None:
    module = make()
    before = module.weights.clone()
    with torch.no_grad():
        module(residuals(0).float())
    module.eval()
    module(residuals(0).float())
    assert torch.equal(module.weights, before)


@every_kind
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_residual_that_is_not_finite_shows_in_the_loss_and_reaches_no_state(make, bad) -> None:
    module, clean = make(), make()
    r = residuals(0)
    r[3] = bad
    assert not module(r).isfinite()
    assert all(buffer.isfinite().all() for buffer in module.state_dict().values())
    assert module.weights[3] == clean.weights.to(module.weights)[3]


@every_kind
def test_wrong_counts_say_what_to_write(make) -> None:
    module = make()
    with pytest.raises(ValueError, match="`index`"):
        module(residuals(0, 4))
    with pytest.raises(ValueError, match="2 is the number of points in `index`"):
        module(residuals(0, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="a module for each equation"):
        module(torch.ones(POINTS, 2))
    assert module(torch.ones(POINTS, 1)).ndim == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResidualAttention(0), "`points` is 0"),
        (lambda: ResidualAttention(2, gamma=1.5), "`gamma` is 1.5"),
        (lambda: ResidualAttention(2, eta=0.0), "eta"),
        (lambda: SelfAdaptive(2, mask="cube"), "mask"),
        (lambda: SelfAdaptive(2, lr=-1.0), "lr"),
        (lambda: Causal(0), "`chunks` is 0"),
        (lambda: Causal(2, eps=[]), "`eps` is"),
        (lambda: Causal(2, eps=-1.0), "`eps` is"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_causal_weights_hold_back_what_comes_after_an_unsolved_chunk() -> None:
    r = residuals(0, 12)
    causal = Causal(4, eps=0.7)
    losses = (r.numpy().reshape(4, 3) ** 2).mean(axis=1)
    weights = np.exp(-0.7 * np.array([losses[:i].sum() for i in range(4)]))
    expected = (weights * losses).mean()
    np.testing.assert_allclose(causal(r).item(), expected, rtol=1e-12)
    np.testing.assert_allclose(causal(r.reshape(4, 3)).item(), expected, rtol=1e-12)
    assert causal.weights[0] == 1


def test_no_gradient_goes_through_causal_weights() -> None:
    causal, r = Causal(2, eps=1.0), residuals(0, 4).requires_grad_()
    (slope,) = torch.autograd.grad(causal(r), r)
    weights = torch.tensor([1.0, torch.exp(-r[:2].detach().square().mean())], dtype=torch.float64)
    torch.testing.assert_close(slope, weights.repeat_interleave(2) * r.detach() / 2)


def test_eps_grows_as_chunks_are_solved_until_the_last_has_converged() -> None:
    causal, seen = Causal(2, eps=[0.01, 1.0]), []
    for size in (100.0, 0.5, 0.5, 0.01):
        causal(torch.full((4,), size))
        seen.append((int(causal.stage), causal.converged))
    assert seen == [(0, False), (1, False), (1, False), (1, True)]
    resumed = Causal(2, eps=[0.01, 1.0])
    resumed.load_state_dict(causal.state_dict())
    assert resumed.converged
    assert int(resumed.stage) == 1


def test_causal_rests_in_evaluation_and_where_a_loss_is_not_finite() -> None:
    causal = Causal(2)
    causal(torch.tensor([torch.nan, 1.0]))
    assert torch.equal(causal.weights, torch.ones(2))
    causal.eval()(torch.zeros(2))
    assert int(causal.stage) == 0


@pytest.mark.parametrize("shape", [(1,), (3, 2), (2, 2, 2), ()])
def test_causal_refuses_what_is_no_row_of_chunks(shape) -> None:
    with pytest.raises(ValueError, match="for 2 chunks"):
        Causal(2)(torch.ones(shape))


def test_any_balancer_goes_on_top() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    equation, condition = eq.pointwise.ResidualAttention(10), eq.pointwise.SelfAdaptive(4)
    causal, balancer = eq.Causal(5), eq.GradNorm(["equation", "condition", "late"])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    points = torch.linspace(0, 1, 10)[:, None]
    found = []
    for _ in range(60):
        field = model(points)
        losses = {
            "equation": equation(field - points.square()),
            "condition": condition(field[:4] - points[:4].square()),
            "late": causal((field - points.square()).flatten()),
        }
        optimizer.zero_grad()
        balancer.backward(losses)
        optimizer.step()
        found.append((field - points.square()).detach().square().mean())
    assert found[-1] < found[0] / 5
