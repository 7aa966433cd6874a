"""Energy and forces: one loss is the derivative of the other's network, and their weights matter.

    pip install equipoise
    python examples/energy_forces.py

The force is the gradient of the predicted energy, so its loss goes backward through a backward
pass: pass the losses as they are, with the graph that `create_graph=True` made.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import equipoise as eq

ATOMS = 4


class Potential(nn.Module):
    """An energy from the distances of all pairs of atoms."""

    def __init__(self) -> None:
        super().__init__()
        pairs = ATOMS * (ATOMS - 1) // 2
        self.energy = nn.Sequential(nn.Linear(pairs, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, places: Tensor) -> tuple[Tensor, Tensor]:
        places = places.requires_grad_()
        energy = self.energy(distances(places))[:, 0]
        (slope,) = torch.autograd.grad(energy.sum(), places, create_graph=True)
        return energy, -slope


def distances(places: Tensor) -> Tensor:
    first, second = torch.triu_indices(ATOMS, ATOMS, offset=1)
    return (places[:, first] - places[:, second]).norm(dim=2)


def molecules(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Springs of length 1 between all pairs, as stiff as each other."""
    rest = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    places = (rest + 0.1 * torch.randn(count, ATOMS, 3)).requires_grad_()
    energy = 10 * (distances(places) - 1).square().sum(dim=1)
    (slope,) = torch.autograd.grad(energy.sum(), places)
    return places.detach(), energy.detach(), -slope


def train(balancer: eq.Balancer) -> tuple[float, float]:
    torch.manual_seed(0)
    model = Potential()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(800):
        places, energy, force = molecules(32)
        found, pull = model(places)
        optimizer.zero_grad()
        balancer.backward(
            {
                "energy": (found - energy).square().mean(),
                "force": (pull - force).square().mean(),
            }
        )
        optimizer.step()
    places, energy, force = molecules(1000)
    found, pull = model(places)
    return (found - energy).abs().mean().item(), (pull - force).abs().mean().item()


def main() -> None:
    print("mean absolute error of    energy    force")
    for balancer in (
        eq.Equal(["energy", "force"]),
        eq.FirstValue(["energy", "force"]),
        eq.GradNorm(["energy", "force"], wrt="shared"),
    ):
        energy, force = train(balancer)
        print(f"{type(balancer).__name__:22}{energy:10.2f}{force:9.2f}")


if __name__ == "__main__":
    main()
