"""Lightning Fabric in bf16: one changed line, also for a method that looks at gradients.

pip install "equipoise[lightning]"
python examples/fabric_loop.py
"""

from __future__ import annotations

import torch
from lightning.fabric import Fabric
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq


class Network(nn.Module):
    """Disease progression, body mass and blood pressure from the other measurements."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.heads = nn.Linear(64, 3)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        errors = (self.heads(self.trunk(x)) - y).square().mean(dim=0)
        return dict(zip(["progression", "mass", "pressure"], errors, strict=True))


def data() -> TensorDataset:
    x, progression = load_diabetes(return_X_y=True)
    measured = torch.tensor(x, dtype=torch.float32) * 20
    progress = torch.tensor(progression, dtype=torch.float32) / 50
    y = torch.stack([progress, measured[:, 2], measured[:, 3]], dim=1)
    return TensorDataset(torch.cat([measured[:, :2], measured[:, 4:]], dim=1), y)


def main() -> None:
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    network = Network()
    network, optimizer = fabric.setup(network, torch.optim.Adam(network.parameters(), lr=1e-3))
    loader = fabric.setup_dataloaders(DataLoader(data(), batch_size=64, shuffle=True))
    balancer = eq.NashMTL(["progression", "mass", "pressure"])
    for epoch in range(10):
        for x, y in loader:
            losses = network(x, y)
            optimizer.zero_grad()
            balancer.backward(losses, backward=fabric.backward)
            optimizer.step()
        report = ", ".join(f"{key} {value:.3f}" for key, value in balancer.report().items())
        print(f"epoch {epoch}: {report}")


if __name__ == "__main__":
    main()
