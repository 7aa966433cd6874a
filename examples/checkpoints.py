"""Checkpoints: a training that was killed and goes on ends where the other one ends, bit for bit.

pip install equipoise
python examples/checkpoints.py
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

import equipoise as eq


class Training:
    """What a checkpoint has to hold: model, optimizer, balancer."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=3e-3)
        self.balancer = eq.GradVac(["near", "far"])  # draws random numbers, remembers cosines
        self.parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "balancer": self.balancer,
        }

    def run(self, steps: range) -> None:
        for step in steps:
            x = torch.randn(32, 8, generator=torch.Generator().manual_seed(step))
            near, far = self.model(x).T
            self.optimizer.zero_grad()
            self.balancer.backward(
                {
                    "near": (near - x[:, 0].sin()).square().mean(),
                    "far": (far - 30 * x[:, 0].cos()).square().mean(),
                }
            )
            self.optimizer.step()

    def save(self, path: Path) -> None:
        torch.save({name: part.state_dict() for name, part in self.parts.items()}, path)

    def load(self, path: Path) -> None:
        saved = torch.load(path, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])


def main() -> None:
    whole = Training()
    whole.run(range(100))

    with TemporaryDirectory() as folder:
        killed = Training()
        killed.run(range(60))
        killed.save(Path(folder) / "checkpoint.pt")
        resumed = Training()
        resumed.load(Path(folder) / "checkpoint.pt")
    resumed.run(range(60, 100))

    pairs = zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    print("bit for bit the same:", all(torch.equal(one, other) for one, other in pairs))
    print("saved of the balancer:", ", ".join(whole.balancer.state_dict()))


if __name__ == "__main__":
    main()
