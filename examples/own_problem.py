"""A problem of one's own for `equipoise compare`: a DataLoader, and a step with a critic in it.

    pip install "equipoise[compare]"
    cd examples
    equipoise compare own_problem:problem --seeds 3

Or `python examples/own_problem.py`, which trains once with two methods and prints what they reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from equipoise.benchmarks import Metric, Problem, Trial
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.training import train
from equipoise.benchmarks.methods import Method


def start(seed: int) -> Trial:
    """Called once for each run, with torch seeded: model and critic are fresh each time."""
    generator = torch.Generator().manual_seed(seed)
    frequencies = 1 + 2 * torch.rand(1200, 1, generator=generator)
    clean = torch.sin(torch.linspace(0, 6, 32) * frequencies)
    noisy = clean + 0.5 * torch.randn(1200, 32, generator=generator)
    training = TensorDataset(noisy[:800], clean[:800])
    validation, test = slice(800, 1000), slice(1000, 1200)

    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32))
    critic = nn.Sequential(nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    of_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)

    def compute_losses(noisy: Tensor, clean: Tensor) -> dict[str, Tensor]:
        made = model(noisy)
        return {"error": F.mse_loss(made, clean), "adversarial": F.softplus(-critic(made)).mean()}

    def step(
        update: Callable[[Mapping[str, Tensor]], None], noisy: Tensor, clean: Tensor
    ) -> dict[str, Tensor]:
        critic.requires_grad_(requires_grad=False)
        losses = compute_losses(noisy, clean)
        update(losses)  # the method: gradients, weights, and the model's optimizer
        critic.requires_grad_(requires_grad=True)
        of_critic.zero_grad()
        made = model(noisy).detach()
        (F.softplus(-critic(clean)) + F.softplus(critic(made))).mean().backward()
        of_critic.step()
        return losses

    def measure(part: slice) -> dict[str, float]:
        made = model(noisy[part])
        return {
            "RMSE": float((made - clean[part]).square().mean().sqrt()),
            "roughness": float(made.diff(dim=1).square().mean().sqrt()),
        }

    return Trial(
        model=model,
        data=DataLoader(training, batch_size=32, shuffle=True),
        compute_losses=compute_losses,
        evaluate=lambda: measure(test),
        validate=lambda: measure(validation),
        right_weights={"error": 1.0, "adversarial": 0.01},
        step=step,
    )


def problem() -> Problem:
    return Problem(
        name="denoising",
        description="Noisy waves made clean, by a squared error and a critic.",
        losses=("error", "adversarial"),
        metric="RMSE",
        higher_is_better=False,
        start=start,
        steps=150,
        lr=2e-3,
        balancers=("equal", "right", "mtadam", "gradnorm"),
        labels={"equal": "plain sum"},
        metrics=(
            Metric("RMSE", higher_is_better=False),
            Metric("roughness", higher_is_better=False),
        ),
    )


def main() -> None:
    mine = problem()
    options = TrainingOptions(None, mine.batch_size, mine.lr, steps=mine.steps)
    for name in ("equal", "right"):
        run = train(mine, Method(name), options, seed=0, watch=lambda _step, _metric: None)
        last = ", ".join(f"{metric} {curve[-1]:.2f}" for metric, curve in run.metrics.items())
        print(f"{name}: {last}")


if __name__ == "__main__":
    main()
