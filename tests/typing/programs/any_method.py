"""Functions annotated with `eq.Balancer`, given every method and wrapper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

import equipoise as eq

NAMES = ("a", "b", "c")


def train(balancer: eq.Balancer, losses_of: Callable[[], dict[str, Tensor]]) -> eq.Record:
    record = balancer.backward(losses_of())
    assert record is balancer.last
    return record


def scalar(balancer: eq.Balancer, losses: dict[str, Tensor]) -> Tensor | None:
    return balancer(losses) if balancer.weighting else None


def arithmetic(balancer: eq.Balancer, values: Tensor, matrix: Tensor) -> Tensor:
    gradients = eq.Gradients(matrix)
    if not balancer.weighting:
        return balancer.combine(values, gradients)
    if balancer.looks_at == "losses":
        return balancer.weigh(values)
    return balancer.weigh(values, gradients)


def wrapped() -> Iterator[eq.Balancer]:
    yield eq.Primary(eq.UPGrad(NAMES), "a")
    yield eq.Shares(eq.Equal(NAMES), {"a": 80, "b": 15, "c": 5})
    yield eq.Behind(eq.MGDA(NAMES))
    yield eq.CRMOGM(NAMES, inner=partial(eq.CAGrad, c=0.3), alpha=0.5)
    yield eq.Primary(eq.Shares(eq.Behind(eq.UPGrad(NAMES)), [1.0, 1.0, 2.0], wrt="shared"), "a")
    yield eq.PerModule(eq.MGDA(NAMES), {"some": torch.ones(2, requires_grad=True)})


def named(name: str) -> eq.Balancer:
    if name == "fixed":
        return eq.create_balancer(name, NAMES, weights={"a": 1.0, "b": 0.5, "c": 2})
    return eq.create_balancer(name, NAMES)


def main() -> None:
    trunk = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))

    def losses_of() -> dict[str, Tensor]:
        a, b, c, _ = trunk(torch.randn(5, 3)).square().mean(dim=0)
        return {"a": a, "b": b, "c": c}

    balancers = [*map(named, eq.list_balancers()), *wrapped()]
    for balancer in balancers:
        if isinstance(balancer, eq.DynamicTaskPrioritization):
            balancer.observe({"a": 0.5, "b": 0.4, "c": 0.3})
        if isinstance(balancer, eq.NTKTrace):
            balancer.observe({name: torch.ones(4) for name in NAMES})
        train(balancer, losses_of)
        loss = scalar(balancer, losses_of())
        assert loss is None or loss.shape == ()
        width = 16
        assert arithmetic(balancer, torch.ones(3), torch.randn(3, width)).shape in ((3,), (width,))
        assert len(balancer.weights) == len(balancer.mean_weights) == 3
