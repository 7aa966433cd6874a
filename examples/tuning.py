"""Tuning: the method is one more choice beside the learning rate, the plain sum among them.

    pip install equipoise
    python examples/tuning.py

Judge by a validation metric that does not depend on the weights: here the part of each target's
variance that is left open.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import nn

import equipoise as eq

METHODS = {
    "plain sum": {"name": "equal"},
    "FirstValue": {"name": "firstvalue"},
    "GradNorm": {"name": "gradnorm", "alpha": 0.5},
}
SCALES = torch.tensor([1.0, 30.0])


def targets_of(x: torch.Tensor) -> torch.Tensor:
    return SCALES * torch.stack([x[:, 0].sin(), x[:, 1].cos()], dim=1)


def objective(method: str, lr: float, **options: float) -> float:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
    balancer = eq.create_balancer(losses=["sine", "cosine"], **METHODS[method] | options)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(200):
        x = torch.randn(64, 4)
        optimizer.zero_grad()
        sine, cosine = (model(x) - targets_of(x)).square().mean(dim=0)
        balancer.backward({"sine": sine, "cosine": cosine})
        optimizer.step()
    x = torch.randn(1000, 4)
    with torch.no_grad():
        left = (model(x) - targets_of(x)).square().mean(dim=0) / targets_of(x).var(dim=0)
    return left.mean().item()


def main() -> None:
    trials = {(method, lr): objective(method, lr) for method, lr in product(METHODS, (3e-3, 1e-2))}
    for (method, lr), left in sorted(trials.items(), key=lambda trial: trial[1]):
        print(f"{method:10} lr {lr:g}: {left:.1%} of the variance left open")


if __name__ == "__main__":
    main()
