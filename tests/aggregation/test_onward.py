"""At the shared representation the heads are passed once, and the trunk once, from there on."""

from __future__ import annotations

import pytest
import torch
import torch._functorch.config
from torch import nn

import equipoise as eq
from tests.models import compile_trunk

LOSSES = ("a", "b", "c")


class Branching(nn.Module):
    """Two of three heads share a layer of their own; a parameter is used by all heads directly."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
        self.pair = nn.Linear(6, 6)
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in LOSSES)
        self.everywhere = nn.Parameter(torch.ones(()))
        if tied:
            self.pair.weight = self.trunk[2].weight
        self.double()

    def forward(self, x):
        shared = self.trunk(x)
        inputs = [self.pair(shared).sin(), self.pair(shared).cos(), shared]
        return {
            name: (i + 1) * (head(z) * self.everywhere - i).square().mean()
            for i, (name, head, z) in enumerate(zip(LOSSES, self.heads, inputs, strict=True))
        }


def expected_gradients(model, losses, weights, heads):
    """One whole gradient a loss; what one loss has for itself gets it plain if heads are."""
    parameters = dict(model.named_parameters())
    rows = [
        torch.autograd.grad(losses[n], parameters.values(), retain_graph=True, allow_unused=True)
        for n in LOSSES
    ]
    found = {}
    for place, name in enumerate(parameters):
        own = sum(row[place] is not None for row in rows) == 1
        factors = [1.0 if own and heads == "plain" else weights[n] for n in LOSSES]
        pairs = [(factor, row[place]) for factor, row in zip(factors, rows, strict=True)]
        found[name] = sum(factor * g for factor, g in pairs if g is not None)
    return found


@pytest.mark.parametrize("tied", [False, True], ids=["", "tied weights"])
@pytest.mark.parametrize("heads", ["weighted", "plain"])
@pytest.mark.parametrize("chunk", [1, 3])
def test_gradients_are_those_of_the_weighted_losses(tied, heads, chunk):
    model = Branching(tied=tied)
    x = torch.randn(5, 4, dtype=torch.float64)
    balancer = eq.MGDA(
        LOSSES, wrt="representation", heads=heads, measuring=eq.Measuring(chunk=chunk)
    )
    balancer.backward(model(x))
    expected = expected_gradients(model, model(x), balancer.weights, heads)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("heads", ["weighted", "plain"])
def test_heads_are_passed_once_a_loss_and_the_trunk_once(heads):
    model = Branching()
    passed = {"trunk": 0, "head": 0}

    def count(name):
        def add(_gradient):
            passed[name] += 1

        def watch(_module, _inputs, output):
            output.register_hook(add)

        return watch

    model.trunk[0].register_forward_hook(count("trunk"))
    model.heads[2].register_forward_hook(count("head"))
    eq.MGDA(LOSSES, wrt="representation", heads=heads).backward(model(torch.randn(5, 4).double()))
    assert (passed["trunk"], passed["head"]) == (1, 1)


def test_the_graph_is_freed_unless_it_is_to_be_kept():
    model = Branching()
    losses = model(torch.randn(5, 4).double())
    balancer = eq.UPGrad(LOSSES, wrt="representation")
    balancer.backward(losses, retain_graph=True)
    first = {name: p.grad.clone() for name, p in model.named_parameters()}
    balancer.backward(losses)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * first[name])
    with pytest.raises(RuntimeError, match="second time"):
        balancer.backward(losses)


@torch._functorch.config.patch(donated_buffer=False)
def test_a_compiled_trunk_can_be_measured_through_in_a_later_step():
    model = Branching()
    compile_trunk(model)
    x = torch.randn(5, 4).double()
    balancer = eq.MGDA(LOSSES, wrt="representation")
    balancer.backward(model(x))
    assert balancer.backward(model(x), wrt="shared").norms.isfinite().all()


def test_hooks_of_the_trunk_fire_and_those_of_a_loss_scale_are_kept():
    model, plain = Branching(), Branching()
    seen = []
    model.trunk[0].weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    x = torch.randn(5, 4).double()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    eq.MGDA(LOSSES, wrt="representation").backward(model(x), scaler=scaler)
    eq.MGDA(LOSSES, wrt="representation").backward(plain(x))
    torch.testing.assert_close(seen, [2.0**10 * plain.trunk[0].weight.grad])
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, 2.0**10 * other.grad)
