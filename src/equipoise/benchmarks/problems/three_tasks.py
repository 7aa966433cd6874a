"""Three tasks on rotated, noisy digits, in their natural units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.benchmarks.metrics import DELTA_M, Metric
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.problems.pictures import load_digits, rotate

SPLIT = (1077, 360, 360)
"""Training, validation and test images."""

_SIDE = 16
_LARGEST_ANGLE = 45.0
_NOISE = 0.15
_WATCHED_SAMPLES = 256


def three_tasks() -> Problem:
    r"""Class, rotation angle and denoised image of a digit, by one trunk with three heads.

    Digits of scikit-learn, enlarged to 16 x 16, are rotated by an angle uniform in
    :math:`\pm 45` degrees, and noise with a deviation of 0.15 is added. The losses are the
    cross-entropy of the class, the mean squared error of the angle in degrees, and that of the
    pixels: untrained they stand at about 2, 700 and 0.1. The references of ``Delta_m`` are the mean
    test results over ten seeds of the same model trained for one task alone.

    Source: an invention in the manner of MultiMNIST (Sener & Koltun 2018, arXiv 1810.04650), which
    needs a download; its unequal units are those of depth and segmentation (Kendall et al. 2018).

    Returns:
        The problem.
    """
    return Problem(
        name="three_tasks",
        description=(
            "Rotated, noisy digits: class, angle in degrees and denoised image, whose losses "
            "differ by a factor of thousands because of their units."
        ),
        losses=("class", "angle", "image"),
        metric=DELTA_M,
        higher_is_better=True,
        start=_start,
        batch_size=64,
        lr=1e-3,
        balancers=("equal", "firstvalue", "mtadam", "gradnorm", "uncertainty", "softadapt"),
        labels={"equal": "plain sum"},
        steps=800,
        metrics=(
            Metric("class error (%)", higher_is_better=False, reference=14.6),
            Metric("angle error (degrees)", higher_is_better=False, reference=4.46),
            Metric("image RMSE", higher_is_better=False, reference=0.0792),
        ),
    )


@dataclass(frozen=True)
class RotatedDigits:
    """Images with what is to be told of them.

    Args:
        noisy: ``[N, 256]``.
        labels: ``[N]``, classes.
        angles: ``[N]``, degrees.
        clean: ``[N, 256]``.
    """

    noisy: Tensor
    labels: Tensor
    angles: Tensor
    clean: Tensor

    def __getitem__(self, chosen: Tensor) -> RotatedDigits:
        """Some of them."""
        return RotatedDigits(*(tensor[chosen] for tensor in self.tensors))

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As a batch holds them."""
        return self.noisy, self.labels, self.angles, self.clean


def rotated_digits(seed: int) -> tuple[RotatedDigits, RotatedDigits, RotatedDigits]:
    """The digits, rotated and noisy.

    Args:
        seed: Decides angles, noise and which image goes where.

    Returns:
        Training, validation and test images.
    """
    generator = torch.Generator().manual_seed(seed)
    images, labels = load_digits()
    large = F.interpolate(images, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False)
    angles = _LARGEST_ANGLE * (2 * torch.rand(len(images), generator=generator) - 1)
    clean = rotate(large, angles).flatten(1)
    noisy = clean + _NOISE * torch.randn(clean.shape, generator=generator)
    every = RotatedDigits(noisy, labels, angles, clean)
    training, validation, test = torch.randperm(len(images), generator=generator).split(SPLIT)
    return every[training], every[validation], every[test]


class TrunkAndHeads(nn.Module):
    """A trunk of 128 and 64 units, and an affine head for each task.

    Args:
        angle_unit: How many degrees the head of the angle means by 1.
    """

    def __init__(self, angle_unit: float = 1.0) -> None:
        super().__init__()
        self.angle_unit = angle_unit
        pixels = _SIDE * _SIDE
        self.trunk = nn.Sequential(nn.Linear(pixels, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.class_head = nn.Linear(64, 10)
        self.angle_head = nn.Linear(64, 1)
        self.image_head = nn.Linear(64, pixels)

    def forward(self, noisy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``[N, 10]``, angles ``[N]`` and images ``[N, 256]``."""
        features = self.trunk(noisy)
        angles = self.angle_unit * self.angle_head(features)[:, 0]
        return self.class_head(features), angles, self.image_head(features)


def measure(model: nn.Module, digits: RotatedDigits) -> dict[str, float]:
    """Error rate in percent, mean absolute error in degrees, and RMSE of the pixels."""
    logits, angles, images = model(digits.noisy)
    wrong = logits.argmax(dim=1) != digits.labels
    return {
        "class error (%)": 100 * float(wrong.double().mean()),
        "angle error (degrees)": float((angles - digits.angles).abs().mean()),
        "image RMSE": float((images - digits.clean).square().mean().sqrt()),
    }


def _start(seed: int) -> Trial:
    training, validation, test = rotated_digits(seed)
    model = TrunkAndHeads()

    def compute_losses(
        noisy: Tensor, labels: Tensor, angles: Tensor, clean: Tensor
    ) -> Mapping[str, Tensor]:
        logits, found_angles, images = model(noisy)
        return {
            "class": F.cross_entropy(logits, labels),
            "angle": F.mse_loss(found_angles, angles),
            "image": F.mse_loss(images, clean),
        }

    def kpis() -> dict[str, float]:
        # 0 is what a model reaches that does not look at the image, and 1 is perfect: an index
        # that is made otherwise lets the task starve whose scale happens to end higher.
        wrong, angle, image = measure(model, training[torch.arange(_WATCHED_SAMPLES)]).values()
        blind = (90.0, _LARGEST_ANGLE / 2, float(training.clean.std()))
        found = zip(("class", "angle", "image"), (wrong, angle, image), blind, strict=True)
        return {name: min(1.0, max(0.0, 1 - error / worst)) for name, error, worst in found}

    return Trial(
        model=model,
        data=training.tensors,
        compute_losses=compute_losses,
        evaluate=lambda: measure(model, test),
        kpis=kpis,
        validate=lambda: measure(model, validation),
    )
