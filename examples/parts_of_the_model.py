"""Parts of a model balanced apart: losses conflict in one layer and agree in another.

    pip install equipoise
    python examples/parts_of_the_model.py

Two tasks read shared features by heads of their own. How far their gradients agree is not the same
in all parts of the model, nor is which of them is the longer. One set of weights for the whole
model is a compromise between the parts; here each part has its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import equipoise as eq

STEPS = 300
NAMES = ["sine", "cosine"]


class Model(nn.Module):
    """An encoder and a decoder, both shared by two tasks; each task has a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh())
        self.decoder = nn.Linear(16, 16)
        self.heads = nn.ModuleDict({name: nn.Linear(16, 1) for name in NAMES})

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        shared = self.decoder(self.encoder(x)).tanh()
        sine, cosine = (self.heads[name](shared)[:, 0] for name in NAMES)
        return {
            "sine": (sine - torch.sin(x[:, 0] + 2 * x[:, 1])).square().mean(),
            "cosine": (cosine - torch.cos(2 * x[:, 1] - x[:, 2])).square().mean(),
        }


def train(model: Model, balancer: eq.Balancer) -> dict[str, float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        balancer.backward(model.losses(torch.randn(128, 8)))
        optimizer.step()
    with torch.no_grad():
        return {
            name: round(float(loss), 3) for name, loss in model.losses(torch.randn(4096, 8)).items()
        }


def main() -> None:
    """Two trainings, and what the gradients and the weights are in each part at the end."""
    torch.manual_seed(0)
    print(f"one set of weights: {train(Model(), eq.NashMTL(NAMES))}")

    torch.manual_seed(0)
    model = Model()
    parts = {"encoder": model.encoder, "decoder": model.decoder}
    balancer = eq.PerModule(eq.NashMTL(NAMES), parts)
    print(f"a set for each part: {train(model, balancer)}")

    losses = model.losses(torch.randn(512, 8))
    for name, part in parts.items():
        gradients = eq.measure(losses, wrt=part)
        cosine, norms = float(gradients.cosines()[0, 1]), gradients.norms()
        weights = {loss: round(weight, 2) for loss, weight in balancer.part_weights[name].items()}
        ratio = float(norms[1] / norms[0])
        print(f"{name}: cosine {cosine:.2f}, ratio of the norms {ratio:.1f}, weights {weights}")


if __name__ == "__main__":
    main()
