"""PhysicsNeMo Sym: the balancer as its loss aggregator, called as its trainer calls one.

In a PhysicsNeMo project the configuration names the class instead:

    loss:
      _target_: equipoise.integrations.physicsnemo.BalancedAggregator
      method: relobralo

Here a few lines stand for its trainer, so that this runs without PhysicsNeMo:

    python examples/physicsnemo_aggregator.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equipoise.integrations.physicsnemo import BalancedAggregator


def losses_of(network: nn.Module) -> dict[str, Tensor]:
    """The constraints of u'' = -sin(x) on [0, pi]; summed over points, as PhysicsNeMo does."""
    x = torch.pi * torch.rand(64, 1).requires_grad_()
    u = network(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    ends = network(torch.tensor([[0.0], [torch.pi]]))
    return {"interior": (bend + x.sin()).square().sum(), "ends": ends.square().sum()}


def main() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
    network.append(nn.Linear(32, 1))
    aggregator = BalancedAggregator(network.parameters(), num_losses=2, method="relobralo")
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(300):
        optimizer.zero_grad()
        losses = losses_of(network)
        aggregator(losses, step).backward()
        optimizer.step()
    print({name: round(loss.item(), 5) for name, loss in losses.items()})
    print(aggregator.balancer.weights)


if __name__ == "__main__":
    main()
