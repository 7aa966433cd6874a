"""Mistakes in a step that a type checker finds."""

from __future__ import annotations

import torch

import equipoise as eq


def step(balancer: eq.Balancer, losses: dict[str, torch.Tensor]) -> None:
    balancer.backward([object()])  # expect-error: list-item
    balancer.backward(1.0)  # expect-error: arg-type
    balancer.backward({0: torch.ones(())})  # expect-error: dict-item
    balancer.backward(losses, wrt=3)  # expect-error: arg-type
    balancer.backward(losses, wrt="encoder")  # expect-error: arg-type
    balancer.backward(losses, backward=3)  # expect-error: arg-type
    balancer.backward(losses, retain=True)  # expect-error: call-arg
    balancer(3.0)  # expect-error: arg-type
    balancer.weigh([1.0, 2.0])  # expect-error: arg-type
    balancer.weigh(torch.ones(2), torch.ones(2, 3))  # expect-error: arg-type
    balancer.combine(torch.ones(2))  # expect-error: call-arg
    balancer.last.weights  # noqa: B018  # expect-error: union-attr
    loss: float = balancer(losses)  # noqa: F841  # expect-error: assignment
    eq.measure(losses, wrt="encoder")  # expect-error: arg-type


def optimize(optimizer: eq.MTAdam) -> None:
    optimizer.backward([object()])  # expect-error: list-item
    optimizer.step(lambda: None)  # expect-error: arg-type, return-value
