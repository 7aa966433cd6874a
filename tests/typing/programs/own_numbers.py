"""A method's own arithmetic, priorities and what is kept of them."""

from __future__ import annotations

import torch
from torch import Tensor

import equipoise as eq


def late(step: int) -> float:
    return float(step >= 2)


def with_schedules() -> eq.Balancer:
    eq.Equal(3, priorities=[1.0, 2, 0.5])
    eq.Equal(3, priorities=torch.ones(3))
    eq.GradNorm(["adversarial", "pixel"], priorities={"adversarial": late})
    return eq.Uncertainty(
        ["kl", "reconstruction", "perceptual"],
        priorities={"kl": eq.Ramp(0.0, 1.0, steps=100, shape="cosine"), "perceptual": 0.1},
    )


def cyclic() -> eq.Balancer:
    cycle = eq.Cycle(10, rising=0.5, shape="cosine")
    stages = eq.Stages({0: 1.0, 100: 0.1})
    return eq.Equal(["kl", "reconstruction"], priorities=[cycle, stages])


def retrained(found: eq.Balancer) -> eq.Fixed:
    return eq.Fixed.from_balancer(found)


def gramian(matrix: Tensor) -> Tensor:
    gradients = eq.Gradients(matrix)
    combined = gradients.combine(torch.ones(len(gradients)))
    assert combined.shape == matrix.shape[1:]
    assert gradients.norms().shape == (len(matrix),)
    return gradients.gram()


def decreasing(balancer: eq.Balancer, start: Tensor, steps: int) -> list[Tensor]:
    return [balancer.weigh(start * 0.9**step) for step in range(steps)]


def resumed(balancer: eq.Balancer) -> eq.Balancer:
    fresh = eq.DWA(balancer.names, window=1)
    fresh.load_state_dict(balancer.state_dict())
    return fresh.eval()


def main() -> None:
    assert with_schedules().names == ("kl", "reconstruction", "perceptual")
    assert cyclic().names == ("kl", "reconstruction")
    weights = {"a": 0.5, "b": 2.0}
    found = retrained(eq.Fixed(["a", "b"], weights))
    assert found.weights == weights
    assert gramian(torch.eye(2)).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    balancer = eq.DWA(["a", "b"], window=1)
    assert len(decreasing(balancer, torch.ones(2), 4)) == 4
    assert not resumed(balancer).training
