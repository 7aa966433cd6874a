"""A variational autoencoder on digits, with a reconstruction that was averaged over the pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from equipoise.benchmarks.metrics import Metric
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.problems.pictures import load_digits
from equipoise.benchmarks.problems.probe import probe_accuracy

LATENT = 8
PIXELS = 64
SIGMA = 0.15
"""The deviation of a pixel about what was decoded."""

_SPLIT = (1077, 360, 360)
BOUND, RMSE, ACCURACY = "negative ELBO", "image RMSE", "probe accuracy"


def vae() -> Problem:
    r"""Reconstruction and divergence; the plain sum forgets how many pixels there are.

    The losses are the squared error averaged over pixels and samples, as ``F.mse_loss`` gives it,
    and :math:`KL(q(z|x) \| N(0, 1))` in nats. With pixels normal about the decoded image with a
    deviation of 0.15, the evidence lower bound weighs the first :math:`64 / (2 \cdot 0.15^2)`
    times: those are the right weights. With the plain sum the posterior collapses onto the prior.
    The metric is the negative bound on test images, in nats, without the constant of the normal
    distribution; a probe's accuracy on the latent means stands beside it.

    Source: Kingma & Welling 2014 (arXiv 1312.6114); weights between the two terms, Higgins et al.
    2017 (beta-VAE) and Rybkin et al. 2021 (arXiv 2006.13202).

    Returns:
        The problem.
    """
    return Problem(
        name="vae",
        description=(
            "A variational autoencoder on digits, whose reconstruction is averaged over the "
            "pixels, a habit that makes it 1400 times too light."
        ),
        losses=("reconstruction", "divergence"),
        metric=BOUND,
        higher_is_better=False,
        start=_start,
        epochs=60,
        batch_size=64,
        lr=2e-3,
        balancers=("equal", "right", "firstvalue", "mtadam", "gradnorm", "uncertainty"),
        labels={"equal": "plain sum", "right": "evidence lower bound"},
        metrics=(
            Metric(BOUND, higher_is_better=False),
            Metric(RMSE, higher_is_better=False),
            Metric(ACCURACY, higher_is_better=True),
        ),
    )


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """From the standard normal distribution.

    Args:
        mean: ``[N, D]``.
        log_variance: ``[N, D]``.

    Returns:
        Nats, averaged over the samples.

    Example:
        >>> float(divergence(torch.zeros(2, 3), torch.zeros(2, 3)))
        0.0
    """
    terms = mean.square() + log_variance.expm1() - log_variance
    return terms.sum(dim=1).mean() / 2


class _Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, 128), nn.ReLU(), nn.Linear(128, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, 128), nn.ReLU(), nn.Linear(128, PIXELS))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(pixels).chunk(2, dim=1)
        noise = torch.randn_like(mean)
        return self.decoder(mean + noise * (log_variance / 2).exp()), mean, log_variance


def _start(seed: int) -> Trial:
    images, labels = load_digits()
    pixels = images.flatten(1)
    generator = torch.Generator().manual_seed(seed)
    training, validation, test = torch.randperm(len(pixels), generator=generator).split(_SPLIT)
    model = _Autoencoder()
    per_mean_square = PIXELS / (2 * SIGMA**2)

    def compute_losses(batch: Tensor) -> Mapping[str, Tensor]:
        decoded, mean, log_variance = model(batch)
        error = (decoded - batch).square().mean()
        return {"reconstruction": error, "divergence": divergence(mean, log_variance)}

    def measure(part: Tensor) -> dict[str, float]:
        # One draw of the latents for each image; the training's generator is put back afterwards.
        torch.manual_seed(seed)
        error, divergence_ = map(float, compute_losses(pixels[part]).values())
        known, asked = (model(pixels[chosen])[1] for chosen in (training, part))
        return {
            BOUND: per_mean_square * error + divergence_,
            RMSE: math.sqrt(error),
            ACCURACY: probe_accuracy((known, labels[training]), (asked, labels[part])),
        }

    return Trial(
        model=model,
        data=(pixels[training],),
        compute_losses=compute_losses,
        evaluate=lambda: measure(test),
        right_weights={"reconstruction": per_mean_square, "divergence": 1.0},
        validate=lambda: measure(validation),
    )
