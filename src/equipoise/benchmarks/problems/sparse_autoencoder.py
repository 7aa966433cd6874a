"""A sparse autoencoder on digits: two losses that want opposite things of the code."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from equipoise.benchmarks.metrics import Metric
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.problems.pictures import load_digits
from equipoise.benchmarks.problems.probe import probe_accuracy

UNITS = 96
TARGET = 0.05
"""How often a unit shall be on."""

_SPLIT = (1077, 360, 360)
ACCURACY, RMSE, ACTIVITY = "probe accuracy", "image RMSE", "mean activity"


def sparse_autoencoder() -> Problem:
    r"""Reconstruction and sparsity of 96 sigmoid units; judged by what a probe reads off them.

    The losses are the mean squared error of the pixels and
    :math:`\sum_j KL(0.05 \| \hat\rho_j)`, where :math:`\hat\rho_j` is unit ``j``'s mean activity in
    the batch. The usual weight of the second, a thousandth to a tenth, is what people search for.
    The metric is the test accuracy of a ridge regression from the code to the class, which sees
    training codes only; reconstruction and activity stand beside it.

    Source: Heydari et al. 2019 (arXiv 1912.12355) (MNIST there); the sparsity term is
    Ng's, CS294A lecture notes, 2011.

    Returns:
        The problem.
    """
    return Problem(
        name="sparse_autoencoder",
        description=(
            "A sparse autoencoder on digits: reconstruction against sparsity, judged by the class "
            "that a linear probe reads off the code."
        ),
        losses=("reconstruction", "sparsity"),
        metric=ACCURACY,
        higher_is_better=True,
        start=_start,
        epochs=60,
        batch_size=64,
        lr=3e-3,
        balancers=("equal", "fixed:weights=1/0.01", "firstvalue", "mtadam", "softadapt"),
        labels={"equal": "plain sum", "fixed:weights=1/0.01": "weights 1 and 0.01"},
        metrics=(
            Metric(ACCURACY, higher_is_better=True),
            Metric(RMSE, higher_is_better=False),
            Metric(ACTIVITY, higher_is_better=False),
        ),
    )


def sparsity(code: Tensor) -> Tensor:
    """How far the units' mean activities are from `TARGET`.

    Args:
        code: ``[N, units]`` in (0, 1).

    Returns:
        The divergences of Bernoulli distributions, summed over the units, in nats.

    Example:
        >>> float(sparsity(torch.full((3, 4), TARGET)).round(decimals=6))
        0.0
    """
    # A mean that rounds to 0 or 1 would be infinitely far.
    activity = code.mean(dim=0).clamp(1e-6, 1 - 1e-6)
    on = TARGET * (TARGET / activity).log()
    return (on + (1 - TARGET) * ((1 - TARGET) / (1 - activity)).log()).sum()


def _start(seed: int) -> Trial:
    images, labels = load_digits()
    pixels = images.flatten(1)
    generator = torch.Generator().manual_seed(seed)
    training, validation, test = torch.randperm(len(pixels), generator=generator).split(_SPLIT)
    encoder = nn.Sequential(nn.Linear(64, UNITS), nn.Sigmoid())
    decoder = nn.Linear(UNITS, 64)

    def compute_losses(batch: Tensor) -> Mapping[str, Tensor]:
        code = encoder(batch)
        error = (decoder(code) - batch).square().mean()
        return {"reconstruction": error, "sparsity": sparsity(code)}

    def measure(part: Tensor) -> dict[str, float]:
        code = encoder(pixels[part])
        known = encoder(pixels[training]), labels[training]
        return {
            ACCURACY: probe_accuracy(known, (code, labels[part])),
            RMSE: float((decoder(code) - pixels[part]).square().mean().sqrt()),
            ACTIVITY: float(code.mean()),
        }

    return Trial(
        model=nn.ModuleList([encoder, decoder]),
        data=(pixels[training],),
        compute_losses=compute_losses,
        evaluate=lambda: measure(test),
        validate=lambda: measure(validation),
    )
