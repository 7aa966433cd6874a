"""What is watched where losses share more, or less, than a trunk; over every method that looks."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

import equipoise as eq
from equipoise.autograd.graph import SharingError
from tests.methods import NAMES, make, of_kind
from tests.models import MultiHead, batch, flat_grad, jacobian

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


class Beside(nn.Module):
    """Two losses on a trunk, and one that has nothing to do with it."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(2))
        self.codebook = nn.Parameter(torch.rand(7))
        self.double()

    def losses(self, x: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        hidden = self.trunk(x)
        a, c = ((i + 1) * (head(hidden) - i).square().mean() for i, head in enumerate(self.heads))
        return {"a": a, "b": 3 * self.codebook.square().sum(), "c": c}, hidden


PLACES = ["shared", "last_shared", "representation", "module", "tensor"]


@pytest.mark.filterwarnings("ignore:Loss 'b' shares nothing")
@pytest.mark.parametrize("place", PLACES)
@every_method
def test_a_loss_that_shares_nothing_counts_with_its_priority_as_if_absent(name, place) -> None:
    model = Beside()
    options = {"priorities": {"a": 0.5, "b": 1.7}}
    torch.manual_seed(0)
    one = make(name, **options)
    torch.manual_seed(0)
    other = make(name, **options)
    trained = [*model.trunk.parameters(), *model.heads.parameters()]
    for _ in range(3):
        x = noise()
        found, expected = [], []
        for balancer, kept in ((one, found), (other, expected)):
            model.zero_grad()
            losses, hidden = model.losses(x)
            if balancer is other:
                del losses["b"]
            wrt = {"module": model.trunk, "tensor": hidden}.get(place, place)
            record = balancer.backward(losses, wrt=wrt)
            kept.extend([record, flat_grad(trained), model.codebook.grad])
        assert found[0].apart == ("b",) or name == "adaptiveratio"  # which looks at a and c alone
        assert found[0].weights[1] == 1.7
        torch.testing.assert_close(found[0].weights[::2], expected[0].weights[::2])
        # Draws are laid onto leaves in the order of the walk, which the codebook changes.
        if (name, place) != ("graddrop", "shared"):
            torch.testing.assert_close(found[1], expected[1])
        torch.testing.assert_close(found[2], 1.7 * 6 * model.codebook.detach())


@pytest.mark.parametrize("name", [n for n in LOOKING if n != "adaptiveratio"])
def test_the_loss_that_shares_nothing_is_named_once(name) -> None:
    model, balancer = Beside(), make(name)

    def train() -> None:
        for _ in range(3):
            balancer.backward(model.losses(noise())[0])

    with pytest.warns(UserWarning, match="Loss 'b' shares nothing") as told:
        train()
    assert len(told) == 1


@pytest.mark.filterwarnings("ignore:Loss 'b' shares nothing")
@pytest.mark.parametrize("wrt", ["last_shared", "representation"])
@every_method
def test_a_penalty_on_a_head_counts_beside_the_losses_of_the_trunk(name, wrt) -> None:
    model, x = Beside(), noise()
    losses, _ = model.losses(x)
    losses["b"] = model.heads[0].weight.square().sum()
    record = make(name, wrt=wrt).backward(losses)
    assert record.weights[1] == 1
    head = model.heads[0].weight
    grad = head.grad
    data, _ = model.losses(x)
    (own,) = torch.autograd.grad(data["a"], head)
    torch.testing.assert_close(grad, 2 * head.detach() + record.weights[0] * own)


@pytest.mark.filterwarnings("ignore:Loss 'b' shares nothing")
@pytest.mark.parametrize("wrap", [lambda b: eq.Primary(b, "a"), lambda b: eq.Shares(b, [1, 2, 1])])
@every_method
def test_wrappers_take_a_loss_that_shares_nothing(name, wrap) -> None:
    model = Beside()
    for _ in range(2):
        record = wrap(make(name)).backward(model.losses(noise())[0])
        assert record.weights.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_where_no_two_losses_share_it_is_an_error() -> None:
    one, other = nn.Linear(3, 1), nn.Linear(3, 1)
    x = torch.rand(4, 3)
    for wrt in ("shared", "last_shared", "representation"):
        with pytest.raises(SharingError):
            eq.UPGrad(2, wrt=wrt).backward([one(x).sum(), other(x).sum()])


@pytest.mark.parametrize("name", [n for n in LOOKING if n != "adaptiveratio"])
def test_a_loss_that_reaches_only_what_is_not_watched_is_told_what_to_write(name) -> None:
    net, field = nn.Linear(1, 4), torch.rand(5, 1, requires_grad=True)
    losses = [net(field).square().mean(), net(field).mean(), field.square().mean()]
    with pytest.raises(SharingError, match=r"Loss 'c' reaches no watched parameter.*trained="):
        make(name, wrt="shared").backward(losses)
    trained = [*net.parameters(), field]
    record = make(name, wrt="shared", trained=trained).backward(losses)
    assert record.apart == ()
    assert field.grad is not None


FROZEN = {
    "half of the trunk": lambda model: model.trunk[0],
    "a bias of the trunk": lambda model: model.trunk[2].bias,
    "a head": lambda model: model.heads[0],
}


@pytest.mark.parametrize("part", FROZEN)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_frozen_between_the_passes_gets_no_gradient_and_the_rest_what_it_would(
    name, part
) -> None:
    model, x = MultiHead(3), batch()
    torch.manual_seed(0)
    balancer = make(name)
    losses = model(x)
    FROZEN[part](model).requires_grad_(requires_grad=False)
    record = balancer.backward(losses)
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    if balancer.weighting and balancer.heads == "weighted":
        trained = [p for p in model.parameters() if p.requires_grad]
        rows = jacobian(model(x), trained)
        torch.testing.assert_close(flat_grad(trained), record.weights.to(rows) @ rows)


@pytest.mark.parametrize("when", ["before", "between"])
@pytest.mark.parametrize("wrt", ["shared", "last_shared"])
@every_method
def test_a_trunk_that_is_not_trained_is_an_error_in_its_own_words(name, when, wrt) -> None:
    model = MultiHead(3)
    if when == "before":
        model.trunk.requires_grad_(requires_grad=False)
    losses = model(batch())
    model.trunk.requires_grad_(requires_grad=False)
    with pytest.raises(SharingError, match=r"requires a gradient.*requires_grad_\(False\)"):
        make(name, wrt=wrt).backward(losses)
    assert all(p.grad is None for p in model.parameters())


def test_adaptive_ratio_names_the_losses_that_share_nothing() -> None:
    x = torch.rand(4, 3)
    losses = {"pixel": nn.Linear(3, 1)(x).sum(), "critic": nn.Linear(3, 1)(x).sum()}
    with pytest.raises(SharingError, match="No two of 'pixel', 'critic' share"):
        eq.AdaptiveRatio(["pixel", "critic"]).backward(losses)


@pytest.mark.parametrize("last", [nn.Identity(), nn.Tanh(), nn.Sigmoid()])
@pytest.mark.parametrize("make", [eq.UPGrad, eq.MGDA, eq.GradientShares, eq.PCGrad])
def test_columns_of_one_matrix_are_compared_at_what_the_matrix_is_made_of(make, last) -> None:
    torch.manual_seed(0)
    trunk, head = nn.Sequential(nn.Linear(4, 8), nn.Tanh()), nn.Sequential(nn.Linear(8, 3), last)
    x, y = torch.randn(16, 4), torch.rand(16, 3)
    options = {"shares": [1, 1, 1]} if make is eq.GradientShares else {}
    balancer = make(3, wrt="representation", **options)
    for _ in range(2):
        hidden = trunk(x)
        losses = (head(hidden) - y).square().mean(0)
        rows = [torch.autograd.grad(loss, hidden, retain_graph=True)[0] for loss in losses]
        gram = torch.stack([row.flatten() for row in rows])
        found = eq.measure(losses, "representation")
        torch.testing.assert_close(found.gram(), gram @ gram.T)
        parameters = [*trunk.parameters(), *head.parameters()]
        slowly = jacobian(list(losses), parameters)
        for parameter in parameters:
            parameter.grad = None
        weights = balancer.backward(losses).weights
        torch.testing.assert_close(flat_grad(parameters), weights @ slowly)


def test_losses_that_are_masks_of_one_vector_are_warned_of_at_the_representation() -> None:
    trunk, x = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), torch.randn(12, 4)
    mask = torch.arange(12) % 2 == 0
    per_sample = trunk(x).square().flatten()
    losses = [per_sample[mask].mean(), per_sample[~mask].mean()]
    with pytest.warns(UserWarning, match=r"nothing in common.*wrt='shared'"):
        eq.UPGrad(2, wrt="representation").backward(losses)


def test_elements_of_a_parameter_that_share_nothing_are_no_reason_to_warn() -> None:
    theta = torch.ones(3, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eq.UPGrad(3, wrt="representation").backward(list(theta.exp() * theta.square()))
