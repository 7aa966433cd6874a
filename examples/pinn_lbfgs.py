"""A physics-informed network of one's own: Adam, then L-BFGS, with one balancer throughout.

    pip install equipoise
    python examples/pinn_lbfgs.py

L-BFGS compares values, and what it knows of curvature holds for one objective: the weights that
were learned with Adam rest while it runs. With `eq.Equal` instead, the conditions are drowned by
the residual, and the answer is nearly zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import equipoise as eq

LOSSES = ["residual", "left", "right"]


def losses_of(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """A stiff layer: u'' = 100 u on [0, 1] with u(0) = 1 and u(1) = exp(-10)."""
    u = network(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    left, right = network(torch.tensor([[0.0], [1.0]], dtype=x.dtype))[:, 0]
    return {
        "residual": (bend - 100 * u).square().mean(),
        "left": (left - 1).square(),
        "right": (right - torch.tensor(-10.0, dtype=x.dtype).exp()).square(),
    }


def error(network: nn.Module, x: Tensor) -> float:
    return (network(x) - (-10 * x).exp()).abs().max().item()


def main() -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    x = torch.linspace(0, 1, 64)[:, None].requires_grad_()
    network = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh())
    network.append(nn.Linear(20, 1))
    balancer = eq.InverseGradientNorm(LOSSES)

    adam = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(300):
        adam.zero_grad()
        balancer.backward(losses_of(network, x))
        adam.step()
    print(f"after Adam:   error {error(network, x):.4f}, weights {balancer.weights}")

    with balancer.settled():
        lbfgs = torch.optim.LBFGS(network.parameters(), max_iter=20, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            lbfgs.zero_grad()
            loss = balancer(losses_of(network, x))
            loss.backward()
            return loss

        for _ in range(20):
            lbfgs.step(closure)
    print(f"after L-BFGS: error {error(network, x):.4f}, weights {balancer.weights}")


if __name__ == "__main__":
    main()
