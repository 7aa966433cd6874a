"""Models whose graph changes from step to step: what a step watches is read from its own graph."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import equipoise as eq
from tests.methods import NAMES, make
from tests.models import MultiHead, batch

KINDS = {name: (name, {}) for name in NAMES} | {
    "mgda at the last shared layer": ("mgda", {"wrt": "last_shared"}),
    "upgrad with plain heads": ("upgrad", {"heads": "plain"}),
    "dbmtl at the representation": ("dbmtl", {"wrt": "representation"}),
}


class Routed(nn.Module):
    """Each step goes through one of several experts, above a trunk and below the heads."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.experts = nn.ModuleList(nn.Linear(5, 5) for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(3))
        self.double()

    def forward(self, x: Tensor, expert: int) -> dict[str, Tensor]:
        hidden = self.experts[expert](self.trunk(x)).tanh()
        found = [(i + 1) * (head(hidden) - i).square().mean() for i, head in enumerate(self.heads)]
        return dict(zip("abc", found, strict=True))


def without(losses: dict[str, Tensor], *absent: str) -> dict[str, Tensor]:
    return {name: loss for name, loss in losses.items() if name not in absent}


@pytest.mark.parametrize("absent", ["b", "ab"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_last_complete_step_did_not_reach_gets_its_gradient(kind, absent) -> None:
    name, options = KINDS[kind]
    model, balancer = Routed(), make(name, **options)
    balancer.backward(model(batch(), 0))
    model.zero_grad()
    losses = without(model(batch(), 1), *absent)
    balancer.backward(losses)
    missing = [head for head, name in zip(model.heads, "abc", strict=True) if name in absent]
    idle = [*model.experts[0].parameters(), *(p for head in missing for p in head.parameters())]
    assert all(p.grad is None or not p.grad.any() for p in idle)
    assert all(p.grad is not None for p in model.experts[1].parameters())
    assert all(p.grad is not None for p in model.heads[2].parameters())


def saved(*parts: object) -> list[dict]:
    return [copy.deepcopy(part.state_dict()) for part in parts]


@pytest.mark.parametrize("first", ["b", "ac"])
@pytest.mark.parametrize("kind", KINDS)
def test_resumption_is_bit_for_bit_if_the_first_step_lacks_losses(kind, first) -> None:
    name, options = KINDS[kind]
    data = [batch() for _ in range(6)]

    def train(model, balancer, optimizer, steps) -> None:
        for step in steps:
            losses = dict(zip("abc", model(data[step]), strict=True))
            optimizer.zero_grad()
            balancer.backward(without(losses, *first) if step == 3 else losses)
            optimizer.step()

    def fresh() -> tuple[MultiHead, eq.Balancer, torch.optim.Optimizer]:
        torch.manual_seed(7)
        model = MultiHead(3)
        return model, make(name, **options), torch.optim.Adam(model.parameters(), lr=0.01)

    parts = fresh()
    train(*parts, range(3))
    states, drawn = saved(*parts), torch.get_rng_state()
    train(*parts, range(3, 6))
    again = fresh()
    for part, state in zip(again, states, strict=True):
        part.load_state_dict(state)
    torch.set_rng_state(drawn)
    train(*again, range(3, 6))
    for one, other in zip(parts[0].parameters(), again[0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_loss_alone_is_not_compared_with_others() -> None:
    """Nothing is shared by one loss, so its weight rests, whatever steps came before."""
    model = MultiHead(3)
    balancer = make("mgda")
    balancer.backward(dict(zip("abc", model(batch()), strict=True)))
    before = balancer.weights["b"]
    balancer.backward({"b": model(batch())[1]})
    assert balancer.weights["b"] == before
