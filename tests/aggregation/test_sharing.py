"""What is watched where losses share more, or less, than a trunk; over every method that looks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.methods import NAMES, make, of_kind
from tests.models import flat_grad, jacobian

LOOKING = [name for name in NAMES if name not in of_kind(looks_at="losses")]
every_method = pytest.mark.parametrize("name", LOOKING)


class Generator(nn.Module):
    """A generator whose output two losses see through a critic, and a third as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4), nn.Sigmoid())
        self.critic = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.score = nn.Linear(5, 1)
        self.double()

    def losses(self, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        image = self.generator(noise)
        features = self.critic(image)
        return {
            "a": (self.score(features) - 2).square().mean(),
            "b": (features + 0.3).square().mean(),
            "c": (image - 0.1).square().mean(),
        }


def noise() -> torch.Tensor:
    return torch.rand(9, 3, dtype=torch.float64)


@every_method
def test_with_trained_a_generator_is_trained_as_if_the_critic_were_frozen(name) -> None:
    model = Generator()
    frozen = copy.deepcopy(model)
    frozen.critic.requires_grad_(requires_grad=False)
    frozen.score.requires_grad_(requires_grad=False)
    torch.manual_seed(0)
    told = make(name, trained=torch.optim.SGD(model.generator.parameters(), lr=0.1))
    torch.manual_seed(0)
    expected = make(name)
    for _ in range(3):
        x = noise()
        model.zero_grad()
        frozen.zero_grad()
        record = told.backward(model.losses(x))
        wanted = expected.backward(frozen.losses(x))
        torch.testing.assert_close(record.weights, wanted.weights, rtol=1e-6, atol=1e-8)
        found = flat_grad(list(model.generator.parameters()))
        there = flat_grad(list(frozen.generator.parameters()))
        torch.testing.assert_close(found, there, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("heads", ["weighted", "plain"])
@every_method
def test_what_is_not_trained_gets_the_gradient_of_the_weighted_losses(name, heads) -> None:
    model, x = Generator(), noise()
    balancer = make(name, trained=model.generator, heads=heads)
    record = balancer.backward(model.losses(x))
    weights = record.weights if balancer.weighting else torch.ones(3, dtype=torch.float64)
    critic = list(model.critic.parameters())
    rows = jacobian(list(model.losses(x).values()), critic)
    torch.testing.assert_close(flat_grad(critic), weights.to(rows) @ rows)


@every_method
def test_a_coefficient_that_only_one_loss_explains_is_watched_and_learns(name) -> None:
    net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    coefficient = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    plain = nn.Parameter(coefficient.detach().clone())

    def losses(points: torch.Tensor, c: torch.Tensor) -> list[torch.Tensor]:
        u = net(points)
        (slope,) = torch.autograd.grad(u.sum(), points, create_graph=True)
        return [(slope - c * u).square().mean(), (u - 1).square().mean(), (c - 2).square() + 0 * c]

    torch.manual_seed(0)
    one = make(name, wrt="shared")
    torch.manual_seed(0)
    other = make(name, wrt="shared")
    points = torch.rand(8, 1, dtype=torch.float64).requires_grad_()
    found = one.backward(losses(points, coefficient))
    net.zero_grad()
    expected = other.backward(losses(points, plain))
    torch.testing.assert_close(found.weights, expected.weights, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(coefficient.grad, plain.grad)


@every_method
def test_what_was_named_by_a_generator_is_still_named_in_the_next_step(name) -> None:
    model = Generator()
    balancer = make(name, wrt=model.generator.parameters())
    for _ in range(3):
        record = balancer.backward(model.losses(noise()))
        assert record.weights.isfinite().all()


@every_method
def test_a_copy_of_a_balancer_names_the_same_model(name) -> None:
    model = Generator()
    balancer = make(name, wrt=model.generator, trained=model.generator)
    copied = copy.deepcopy(balancer)
    balancer.backward(model.losses(noise()))
    copied.backward(model.losses(noise()))
    assert not dict(copied.named_parameters())
