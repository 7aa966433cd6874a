"""Accelerate with MTAdam: a digit and its image, over micro-batches, no weights to tune.

pip install "equipoise[accelerate]"
python examples/mtadam_accelerate.py
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq
from equipoise.integrations.accelerate import MultiTermBackward


class Network(nn.Module):
    """Classifies a digit and reconstructs its image."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.classifier = nn.Linear(16, 10)
        self.decoder = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        code = self.encoder(images)
        return {
            "label": F.cross_entropy(self.classifier(code), labels),
            "image": (self.decoder(code) - images).square().sum(dim=1).mean(),
        }


def data() -> TensorDataset:
    images, labels = load_digits(return_X_y=True)
    return TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))


def main() -> None:
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    network = Network()
    optimizer = eq.MTAdam(network.parameters(), lr=2e-3, losses=["label", "image"])
    loader = DataLoader(data(), batch_size=16, shuffle=True)
    network, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    backward = MultiTermBackward(optimizer, accelerator)
    for epoch in range(5):
        for images, labels in loader:
            with accelerator.accumulate(network):
                backward(network(images, labels))
                optimizer.step()
                optimizer.zero_grad()
        report = backward.optimizer.report()
        accelerator.print(f"epoch {epoch}:", *(f"{key} {report[key]:.3f}" for key in report))


if __name__ == "__main__":
    main()
