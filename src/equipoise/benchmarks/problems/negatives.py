"""A picture and its negative from one decoder, and the class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.benchmarks.metrics import DELTA_M, Metric
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.problems.pictures import load_digits

SPLIT = (900, 400, 497)
"""Training, validation and test images."""

LOUD = 100.0
_FEATURES, _PIXELS = 24, 64


def negatives() -> Problem:
    r"""A digit and its negative by one decoder, which is told which of the two by a learnt vector.

    :math:`D(E(x) + v_1)` is to be the image less the mean image, :math:`D(E(x) + v_2)` minus that;
    a third head tells the class from the features :math:`E(x)`. Both vectors start at zero, so that
    the first two losses want the opposite of every weight in ``D``, batch for batch, until the
    vectors part. The references of ``Delta_m`` are the mean test results over ten seeds of the same
    model trained for one task alone, at the best of three rates.

    Source: an invention, made to test what `equipoise.diagnose` advises on a problem that no rule
    was chosen by.

    Returns:
        The problem.
    """
    return Problem(
        name="negatives",
        description=(
            "One decoder gives a digit and its negative, told apart by a learnt vector: gradients "
            "are opposed in every batch until it does; and the class."
        ),
        losses=("picture", "negative", "class"),
        metric=DELTA_M,
        higher_is_better=True,
        start=lambda seed: _start(seed, 1.0),
        batch_size=64,
        lr=1e-2,
        balancers=("equal", "firstvalue", "mtadam", "upgrad", "pcgrad", "config", "nashmtl"),
        labels={"equal": "plain sum"},
        steps=300,
        metrics=(
            Metric("picture RMSE", higher_is_better=False, reference=0.155),
            Metric("negative RMSE", higher_is_better=False, reference=0.155),
            Metric("class error (%)", higher_is_better=False, reference=14.7),
        ),
    )


def loud_negatives() -> Problem:
    """The same, with the loss of the negative multiplied by 100.

    Returns:
        The problem.
    """
    return replace(
        negatives(),
        name="loud_negatives",
        description=(
            "One decoder gives a digit and its negative, whose loss is a hundred times as loud; "
            "and the class."
        ),
        start=lambda seed: _start(seed, LOUD),
    )


class _Negatives(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, _FEATURES),
            nn.ReLU(),
        )
        self.which = nn.Parameter(torch.zeros(2, _FEATURES))
        last = nn.Linear(64, _PIXELS)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.decoder = nn.Sequential(nn.Linear(_FEATURES, 64), nn.ReLU(), last)
        self.classes = nn.Linear(_FEATURES, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures ``[N, 64]``, negatives ``[N, 64]`` and logits ``[N, 10]``."""
        features = self.encoder(images)
        picture, negative = (self.decoder(features + which) for which in self.which)
        return picture, negative, self.classes(features)


def _start(seed: int, loud: float) -> Trial:
    images, labels = load_digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    training, validation, test = order.split(SPLIT)
    middle = images[training].mean(dim=0)
    model = _Negatives()

    def errors(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        picture, negative, logits = model(images)
        wanted = (images - middle).flatten(1)
        return F.mse_loss(picture, wanted), F.mse_loss(negative, -wanted), logits

    def compute_losses(images: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        picture, negative, logits = errors(images)
        entropy = F.cross_entropy(logits, labels)
        return {"picture": picture, "negative": loud * negative, "class": entropy}

    def measure(chosen: Tensor) -> dict[str, float]:
        picture, negative, logits = errors(images[chosen])
        wrong = logits.argmax(dim=1) != labels[chosen]
        return {
            "picture RMSE": float(picture.sqrt()),
            "negative RMSE": float(negative.sqrt()),
            "class error (%)": 100 * float(wrong.double().mean()),
        }

    return Trial(
        model=model,
        data=(images[training], labels[training]),
        compute_losses=compute_losses,
        evaluate=lambda: measure(test),
        validate=lambda: measure(validation),
    )
