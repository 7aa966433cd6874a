from __future__ import annotations

import pytest
import torch
from torch import nn

from equipoise.autograd.inputs import named_once, trained_tensors
from equipoise.autograd.shared import last_shared, parameters, representation

BESIDE = {
    "a number": lambda: torch.tensor(1.5),
    "one number in a vector": lambda: torch.tensor([1.5]),
    "one number a field": lambda: torch.tensor([1.5, 0.5]),
    "a row of factors": lambda: torch.ones(1, 2),
}
USES = {
    "multiplied": lambda u, c: u * c,
    "added": lambda u, c: c + u,
    "divided by": lambda u, c: u / c,
    "subtracted": lambda u, c: u - c,
    "an exponent": lambda u, c: (1 + u * u) ** c,
}


def fields(points: torch.Tensor, net: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    u = net(points)
    (slope,) = torch.autograd.grad(u.sum(), points, create_graph=True)
    return u, slope


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("beside", BESIDE)
def test_a_coefficient_that_is_no_nn_parameter_is_watched_and_points_are_not(beside, use) -> None:
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 2))
    points, coefficient = torch.rand(5, 1).requires_grad_(), BESIDE[beside]().requires_grad_()
    u, slope = fields(points, net)
    losses = [
        (slope - USES[use](u, coefficient)).square().mean(),
        (u[0] - 1).square().sum() + coefficient.square().sum(),
        u[-1].square().sum(),
    ]
    found = parameters(losses)
    assert set(found.shared) == {*net.parameters(), coefficient}
    assert found.inputs == (points,)


@pytest.mark.parametrize("product", ["linear", "matmul", "addmm"])
def test_a_weight_that_is_no_nn_parameter_is_watched(product) -> None:
    net, weight = nn.Linear(3, 4), torch.rand(4, 4, requires_grad=True)
    points = torch.rand(5, 3, requires_grad=True)
    hidden = net(points)
    made = {
        "linear": lambda: nn.functional.linear(hidden, weight),
        "matmul": lambda: hidden @ weight,
        "addmm": lambda: torch.addmm(torch.zeros(4), hidden, weight),
    }[product]()
    found = parameters([made.sum(), made.square().sum(), points.sum()])
    assert set(found.shared) == {*net.parameters(), weight}
    assert found.inputs == (points,)


def test_points_of_a_single_sample_are_inputs() -> None:
    net, point = nn.Linear(2, 3), torch.rand(1, 2, requires_grad=True)
    u, slope = fields(point, net)
    found = parameters([(u * 2).sum() + (point * point).sum(), slope.square().sum() + u.sum()])
    assert found.inputs == (point,)


class Critic(nn.Module):
    """A generator's output is looked at by a critic, twice, and compared with a target."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.score = nn.Linear(4, 6), nn.Linear(6, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.first(image).tanh()
        return self.score(features).mean(), features.square().mean()


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lower, self.upper = nn.Linear(3, 5), nn.Linear(5, 4)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        return self.upper(self.lower(noise).relu()).sigmoid()


def test_with_trained_the_unfrozen_critic_is_not_watched() -> None:
    generator, critic = Generator(), Critic()
    losses = critic(generator(torch.rand(7, 3)))
    trained = set(generator.parameters())
    found = parameters(losses, trained)
    assert set(found.shared) == trained
    assert set(found.inputs) == set(critic.first.parameters())
    assert set(last_shared(losses, trained=trained)) == set(generator.upper.parameters())
    assert set(last_shared(losses)) == set(critic.first.parameters())


def test_with_trained_the_representation_lies_below_the_critic() -> None:
    generator, critic = Generator(), Critic()
    image = generator(torch.rand(7, 3))
    (edge,) = representation(critic(image), trained=set(generator.parameters()))
    assert edge.node is image.grad_fn
    (edge,) = representation(critic(image))
    assert edge.node is not image.grad_fn


def test_the_way_below_what_is_not_trained_ends_above_what_is() -> None:
    frozen, trunk, above = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
    hidden = trunk(frozen(torch.rand(2, 3)).tanh()).tanh()
    features = above(hidden).tanh()
    losses = [features.sum(), features.square().sum()]
    (edge,) = representation(losses, trained=set(trunk.parameters()))
    assert edge.node is hidden.grad_fn or edge.node is hidden.grad_fn.next_functions[0][0]


def test_trained_may_be_said_in_any_form_and_is_read_anew_each_time() -> None:
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    both = {*one.parameters(), *other.parameters()}
    assert set(trained_tensors([optimizer, other])) == both
    assert set(trained_tensors([torch.optim.Adam(other.parameters()), optimizer])) == both
    assert trained_tensors(one.weight) == [one.weight]
    optimizer.add_param_group({"params": list(other.parameters())})
    assert set(trained_tensors(optimizer)) == both


def test_generators_are_gone_through_once() -> None:
    model = nn.Linear(2, 2)
    for given in (model.parameters(), [model.parameters()]):
        kept = named_once(given)
        assert set(trained_tensors(kept)) == set(trained_tensors(kept)) == set(model.parameters())


@pytest.mark.parametrize("trained", ["all", 3, [None]])
def test_what_cannot_be_trained_is_refused_with_what_to_write(trained) -> None:
    with pytest.raises(TypeError, match="pass the optimizer of this step"):
        named_once(trained)
