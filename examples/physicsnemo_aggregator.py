"""PhysicsNeMo Sym: the balancer as its loss aggregator, configured and called as by its trainer.

A PhysicsNeMo project registers the configuration above its main function, and names it:

    from equipoise.integrations.physicsnemo import register_loss_config

    register_loss_config()

    @physicsnemo.sym.main(config_path="conf", config_name="config")
    def run(cfg): ...

`CONFIGURATION` is its `conf/config.yaml`. Here a few lines stand for its trainer, so that this runs
without PhysicsNeMo:

    python examples/physicsnemo_aggregator.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equipoise.integrations.physicsnemo import BalancedAggregator

CONFIGURATION = """\
defaults:
  - physicsnemo_default
  - scheduler: tf_exponential_lr
  - optimizer: adam
  - loss: equipoise
  - _self_

loss:
  method: learningrateannealing
  options: {reference: diffusion}

jit: false
cuda_graphs: false
"""


def losses_of(network: nn.Module) -> dict[str, Tensor]:
    """Of u'' = -sin(x) on [0, pi]: the walls, added first, and the equation; summed over points."""
    x = torch.pi * torch.rand(64, 1).requires_grad_()
    u = network(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    walls = network(torch.tensor([[0.0], [torch.pi]]))
    return {"u": walls.square().sum(), "diffusion": (bend + x.sin()).square().sum()}


def main() -> None:
    print(CONFIGURATION)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
    network.append(nn.Linear(32, 1))
    aggregator = BalancedAggregator(
        network.parameters(),
        num_losses=2,
        method="learningrateannealing",
        options={"reference": "diffusion"},
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(500):
        optimizer.zero_grad()
        losses = losses_of(network)
        aggregator(losses, step).backward()
        optimizer.step()
    x = torch.linspace(0, torch.pi, 101)[:, None]
    error = (network(x) - x.sin()).norm() / x.sin().norm()
    weights = {name: round(weight, 1) for name, weight in aggregator.balancer.weights.items()}
    print(f"weights {weights}, relative error {error.item():.1e}")


if __name__ == "__main__":
    main()
