"""A task that is labelled in a tenth of the batches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.benchmarks.metrics import DELTA_M, Metric
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.problems.three_tasks import TrunkAndHeads, measure, rotated_digits

_LABELLED = 0.1


def rare_labels() -> Problem:
    """The three tasks on digits, where a batch knows the classes one time in ten.

    Angle (in units of 45 degrees) and denoised image are there in every batch; nine batches of ten
    have no classes, so their loss is absent. The references of ``Delta_m`` are the mean test
    results over ten seeds of training with the plain sum and all labels.

    Source: an invention; partially labelled tasks are the rule where data sets are joined
    (Li et al. 2022, arXiv 2111.14893).

    Returns:
        The problem.
    """
    return Problem(
        name="rare_labels",
        description=(
            "Rotated, noisy digits: angle and denoised image in every batch, the class in one "
            "batch of ten."
        ),
        losses=("class", "angle", "image"),
        metric=DELTA_M,
        higher_is_better=True,
        start=_start,
        batch_size=64,
        lr=1e-3,
        balancers=("equal", "firstvalue", "mtadam", "gradnorm", "uncertainty", "famo"),
        labels={"equal": "plain sum"},
        steps=1500,
        metrics=(
            Metric("class error (%)", higher_is_better=False, reference=19.4),
            Metric("angle error (degrees)", higher_is_better=False, reference=4.91),
            Metric("image RMSE", higher_is_better=False, reference=0.105),
        ),
    )


def _start(seed: int) -> Trial:
    training, validation, test = rotated_digits(seed)
    model = TrunkAndHeads(angle_unit=45.0)

    def draw(size: int) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        noisy, labels, angles, clean = training[torch.randint(len(training.noisy), (size,))].tensors
        known = float(torch.rand(())) < _LABELLED
        return noisy, labels if known else None, angles, clean

    def compute_losses(
        noisy: Tensor, labels: Tensor | None, angles: Tensor, clean: Tensor
    ) -> Mapping[str, Tensor]:
        logits, found_angles, images = model(noisy)
        losses = {
            "angle": F.mse_loss(found_angles / 45, angles / 45),
            "image": F.mse_loss(images, clean),
        }
        return losses if labels is None else {"class": F.cross_entropy(logits, labels), **losses}

    return Trial(
        model=model,
        data=draw,
        compute_losses=compute_losses,
        evaluate=lambda: measure(model, test),
        validate=lambda: measure(model, validation),
    )
