from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.pointwise import SelfAdaptive

MASKS = {
    "square": (lambda s: s**2, lambda s: 2 * s),
    "sigmoid": (
        lambda s: 1 / (1 + np.exp(-s)),
        lambda s: np.exp(-s) / (1 + np.exp(-s)) ** 2,
    ),
}


class Adam:
    """Kingma and Ba's Algorithm 1 for one number."""

    def __init__(self) -> None:
        self.m = self.v = self.t = 0.0

    def step(self, gradient: float, lr: float) -> float:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        return lr * (self.m / (1 - 0.9**self.t)) / (np.sqrt(self.v / (1 - 0.999**self.t)) + 1e-8)


class SGD:
    def step(self, gradient: float, lr: float) -> float:
        return lr * gradient


def reference(steps, start, kind, mask, lr):
    m, slope = MASKS[mask]
    scores, rules, losses = list(start), [kind() for _ in start], []
    for r, index in steps:
        pairs = list(zip(r, index, strict=True))
        losses.append(sum(m(scores[i]) * x**2 for x, i in pairs) / len(r))
        for x, i in pairs:
            scores[i] += rules[i].step(slope(scores[i]) * x**2 / len(r), lr)
    return losses, scores


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("optimizer", "kind"), [("adam", Adam), ("sgd", SGD)])
@pytest.mark.parametrize("batch", [5, 2])
def test_a_trajectory_is_that_of_ascent_point_by_point(mask, optimizer, kind, batch) -> None:
    rng = np.random.default_rng(1)
    start = rng.uniform(size=5)
    steps = [
        (rng.normal(size=batch).tolist(), rng.permutation(5)[:batch].tolist()) for _ in range(30)
    ]
    initial = torch.tensor(start)
    module = SelfAdaptive(5, lr=0.05, optimizer=optimizer, mask=mask, initial=initial)
    found = [
        module(torch.tensor(r, dtype=torch.float64, requires_grad=True), index=index).item()
        for r, index in steps
    ]
    losses, scores = reference(steps, start, kind, mask, 0.05)
    np.testing.assert_allclose(found, losses, rtol=1e-10)
    np.testing.assert_allclose(module.scores.numpy(), scores, rtol=1e-10)


def test_it_is_torch_adam_maximising_beside_the_model() -> None:
    """The step of the authors' PyTorch code: one graph for both, the weights' optimizer upwards."""
    lam = torch.full((4,), 0.5, dtype=torch.float64, requires_grad=True)
    ascent = torch.optim.Adam([lam], lr=0.005, maximize=True)
    module = SelfAdaptive(4, lr=0.005, initial=0.5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        r = torch.randn(4, dtype=torch.float64, generator=generator).requires_grad_()
        ascent.zero_grad()
        loss = (lam * r).square().mean()
        loss.backward()
        ours = module(r)
        (gradient,) = torch.autograd.grad(ours, r)
        torch.testing.assert_close(ours, loss, rtol=1e-10, atol=0)
        torch.testing.assert_close(gradient, r.grad, rtol=1e-10, atol=0)
        ascent.step()
    torch.testing.assert_close(module.scores, lam.detach(), rtol=1e-10, atol=0)


def test_points_with_initial_weights_of_their_own_cannot_change_in_number() -> None:
    module = SelfAdaptive(2, lr=0.1, initial=torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="make a new SelfAdaptive"):
        module.reset(points=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"points": 0}, "`points` is 0"),
        ({"lr": -1.0}, "lr"),
        ({"optimizer": "lion"}, "`optimizer` is 'lion'"),
        ({"mask": "cube"}, "`mask` is 'cube'"),
        ({"initial": torch.ones(2)}, "2 entries for 3 points"),
        ({"initial": float("nan")}, "not finite"),
    ],
)
def test_arguments_out_of_range_are_refused(given, message) -> None:
    with pytest.raises(ValueError, match=message):
        SelfAdaptive(**{"points": 3, "lr": 0.1, **given})
