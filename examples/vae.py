"""A VAE: the weight of the divergence, which everybody searches for, as a share of the gradient.

    pip install equipoise scikit-learn
    python examples/vae.py

Plain sum: the reconstruction's gradient is so much longer that the divergence counts for little.
`GradientShares` gives it the part that is asked for, whatever both losses are measured in.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import equipoise as eq


class VAE(nn.Module):
    """Digits of 64 pixels, through a normal distribution in 8 dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1) / 2
        error = (self.decoder(code) - images).square().sum(dim=1)
        return {"reconstruction": error.mean(), "divergence": divergence.mean()}


def train(balancer: eq.Balancer, images: Tensor) -> dict[str, float]:
    torch.manual_seed(0)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(600):
        batch = images[torch.randint(len(images), (64,))]
        optimizer.zero_grad()
        balancer.backward(model(batch))
        optimizer.step()
    with torch.no_grad():
        return {name: loss.item() for name, loss in model(images).items()}


def main() -> None:
    images = torch.tensor(load_digits(return_X_y=True)[0], dtype=torch.float32) / 16
    for divergence in (0.02, 0.05, 0.1):
        shares = {"reconstruction": 1 - divergence, "divergence": divergence}
        balancer = eq.GradientShares(["reconstruction", "divergence"], shares=shares)
        losses = train(balancer, images)
        print(f"share {divergence:.0%}:", *(f"{key} {loss:.2f}" for key, loss in losses.items()))


if __name__ == "__main__":
    main()
