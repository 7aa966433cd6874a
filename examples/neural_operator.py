"""A small Fourier neural operator with complex weights, and three losses: data, equation, walls.

It maps the right-hand side f of u'' = f on [0, 1], u = 0 at both ends, to u. Each spectral layer
multiplies the lowest frequencies with complex weights, whose gradients are complex, too.

    python examples/neural_operator.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import equipoise as eq
from equipoise.integrations.balanced_loss import balanced_loss

POINTS = 64
GRID = torch.linspace(0, 1, POINTS)


class SpectralConvolution(nn.Module):
    """Multiplies the lowest frequencies with a complex matrix each."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width, modes, dtype=torch.cfloat) / width)

    def forward(self, x: Tensor) -> Tensor:
        modes = self.weight.shape[-1]
        low = torch.fft.rfft(x)[..., :modes]
        mixed = torch.einsum("bim,iom->bom", low, self.weight)
        return torch.fft.irfft(mixed, n=x.shape[-1])


class Operator(nn.Module):
    """Two spectral layers between pointwise ones."""

    def __init__(self, width: int = 16, modes: int = 12) -> None:
        super().__init__()
        self.lift = nn.Conv1d(2, width, 1)
        self.spectral = nn.ModuleList(SpectralConvolution(width, modes) for _ in range(2))
        self.pointwise = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(2))
        self.project = nn.Conv1d(width, 1, 1)

    def forward(self, f: Tensor) -> Tensor:
        x = self.lift(torch.stack([f, GRID.expand_as(f)], dim=1))
        for spectral, pointwise in zip(self.spectral, self.pointwise, strict=True):
            x = torch.nn.functional.gelu(spectral(x) + pointwise(x))
        return self.project(x)[:, 0]


class Balanced:
    """Several loss functions as the one that `neuralop`'s trainer calls and goes backward from."""

    def __init__(self, losses: dict[str, Callable[..., Tensor]], balancer: eq.Balancer) -> None:
        self.losses = losses
        self.balancer = balancer

    def __call__(self, out: Tensor, **sample: Tensor) -> Tensor:
        found = {name: loss(out, **sample) for name, loss in self.losses.items()}
        return balanced_loss(self.balancer, found)


def data(out: Tensor, *, y: Tensor, known: Tensor, **_sample: Tensor) -> Tensor:
    """Only of some samples the solution is known."""
    return (out[known] - y[known]).square().mean()


def equation(out: Tensor, *, x: Tensor, **_sample: Tensor) -> Tensor:
    bend = (out[:, 2:] - 2 * out[:, 1:-1] + out[:, :-2]) * (POINTS - 1) ** 2
    return (bend - x[:, 1:-1]).square().mean()


def walls(out: Tensor, **_sample: Tensor) -> Tensor:
    return out[:, [0, -1]].square().mean()


def samples(count: int) -> dict[str, Tensor]:
    """Right-hand sides and their solutions, sums of sines; a quarter of them known."""
    k = torch.arange(1, 5)
    amplitudes, waves = torch.randn(count, 4) / k**2, torch.sin(torch.pi * k[:, None] * GRID)
    u, f = amplitudes @ waves, -(amplitudes * (torch.pi * k) ** 2) @ waves
    return {"x": f, "y": u, "known": torch.arange(count) % 4 == 0}


def trained(balancer: eq.Balancer) -> float:
    """Trains and gives the relative error on right-hand sides that were not seen."""
    torch.manual_seed(0)
    model, batch, unseen = Operator(), samples(64), samples(64)
    loss = Balanced({"data": data, "equation": equation, "walls": walls}, balancer)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss(model(batch["x"]), **batch).backward()
        optimizer.step()
    return ((model(unseen["x"]) - unseen["y"]).norm() / unseen["y"].norm()).item()


def main() -> None:
    names = ["data", "equation", "walls"]
    print(f"plain sum: relative error {trained(eq.Equal(names)):.1e}")
    for balancer in (eq.InverseGradientNorm(names), eq.ConFIG(names)):
        error = trained(balancer)
        weights = {name: f"{weight:.2g}" for name, weight in balancer.weights.items()}
        print(f"{type(balancer).__name__}: relative error {error:.1e}, weights {weights}")


if __name__ == "__main__":
    main()
