"""The plain sum and MTAdam on one small problem: three quantities in three units.

    pip install equipoise
    python examples/first_steps.py

A pendulum swings; from its length, mass and first angle a network tells its period in seconds, the
tension of its rod in newtons and its energy in joules. Units are what people chose, so the losses
differ by a factor of thousands, and nobody knows which weights would be right.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import equipoise as eq

QUANTITIES = ("period", "tension", "energy")


class Network(nn.Module):
    """A shared trunk and one head for each quantity."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.heads = nn.ModuleDict({name: nn.Linear(64, 1) for name in QUANTITIES})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.trunk(x)
        return {name: head(hidden)[:, 0] for name, head in self.heads.items()}


def pendulums(count: int) -> tuple[Tensor, dict[str, Tensor]]:
    length, mass, angle = 0.2 + torch.rand(count), 0.5 + 2 * torch.rand(count), torch.rand(count)
    drop = 9.81 * length * (1 - angle.cos())
    period = 2 * torch.pi * (length / 9.81).sqrt() * (1 + angle**2 / 16)
    tension = mass * (9.81 + 2 * drop / length)
    return torch.stack([length, mass, angle], dim=1), {
        "period": period,
        "tension": tension,
        "energy": mass * drop,
    }


def mean_squares(found: dict[str, Tensor], known: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: (found[name] - known[name]).square().mean() for name in QUANTITIES}


def train(optimizer_class: type[torch.optim.Optimizer]) -> dict[str, float]:
    """Trains a network, and gives the part of each quantity's variance that it leaves open."""
    torch.manual_seed(0)
    network = Network()
    optimizer = optimizer_class(network.parameters(), lr=3e-3)
    for _ in range(1000):
        x, known = pendulums(128)
        losses = mean_squares(network(x), known)
        optimizer.zero_grad()
        if isinstance(optimizer, eq.MTAdam):
            optimizer.backward(losses)
        else:
            sum(losses.values()).backward()
        optimizer.step()
    x, known = pendulums(1000)
    with torch.no_grad():
        errors = mean_squares(network(x), known)
    return {name: (errors[name] / known[name].var()).item() for name in QUANTITIES}


def main() -> None:
    print(f"{'variance left open':20}", *(f"{name:>10}" for name in QUANTITIES))
    for title, kind in (("plain sum, Adam", torch.optim.Adam), ("MTAdam", eq.MTAdam)):
        left = train(kind)
        print(f"{title:20}", *(f"{left[name]:10.2%}" for name in QUANTITIES))


if __name__ == "__main__":
    main()
