"""Gradient accumulation: four micro-batches, one step, weights learned from the last of them.

pip install equipoise
python examples/accumulation.py
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

import equipoise as eq

MICRO_BATCHES = 4


def main() -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(8, 64), nn.Tanh())
    heads = nn.ModuleDict({name: nn.Linear(64, 1) for name in ("near", "far")})
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=3e-3)
    balancer = eq.GradNorm(["near", "far"])
    for step in range(200):
        optimizer.zero_grad()
        for part in range(MICRO_BATCHES):
            x = torch.randn(16, 8)
            targets = {"near": x[:, 0].sin(), "far": 30 * x[:, 1].sin()}
            hidden = trunk(x)
            losses = {
                name: (head(hidden)[:, 0] - targets[name]).square().mean() / MICRO_BATCHES
                for name, head in heads.items()
            }
            last = part == MICRO_BATCHES - 1
            with nullcontext() if last else balancer.frozen():
                balancer.backward(losses)
        optimizer.step()
        if step % 100 == 99:
            print(step + 1, ", ".join(f"{key} {x:.3g}" for key, x in balancer.report().items()))


if __name__ == "__main__":
    main()
