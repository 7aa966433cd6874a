"""Patches of photographs: noise taken out, edges found, mean brightness told."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.benchmarks.metrics import DELTA_M, Metric
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.problems.pictures import load_photographs

PARTS = ((0.0, 0.6, 1200), (0.6, 0.8, 300), (0.8, 1.0, 300))
"""Training, validation and test: from where to where in each photograph, and how many patches."""

SIDE = 12
_NOISE = 40.0
_LEVELS = 255.0


def photographs() -> Problem:
    r"""Three tasks on noisy patches by one convolutional trunk, in the units people use for them.

    Patches of 12 x 12 come from the left of both photographs of scikit-learn for training, from the
    right for validation and test, with noise of 40 grey levels. The losses are the mean squared
    error of the clean patch in grey levels (0 to 255), that of its edges (the length of the
    gradient from pixel to pixel, in brightness from 0 to 1) and the mean absolute error of its mean
    brightness: untrained they stand at about 17000, 0.03 and 0.5. The references of ``Delta_m`` are
    the mean test results over ten seeds of the same model trained for one task alone.

    Source: an invention, made to test what `equipoise.diagnose` advises on a problem that no rule
    was chosen by; its tasks are those of Taskonomy (Zamir et al. 2018, arXiv 1804.08328) in small.

    Returns:
        The problem.
    """
    return Problem(
        name="photographs",
        description=(
            "Noisy patches of photographs: the clean patch in grey levels, its edges, its mean "
            "brightness, whose gradients differ by a factor of a million."
        ),
        losses=("patch", "edges", "brightness"),
        metric=DELTA_M,
        higher_is_better=True,
        start=_start,
        batch_size=32,
        lr=1e-2,
        balancers=("equal", "firstvalue", "mtadam", "gradnorm", "uncertainty"),
        labels={"equal": "plain sum"},
        steps=300,
        metrics=(
            Metric("patch RMSE (grey levels)", higher_is_better=False, reference=25.3),
            Metric("edge RMSE", higher_is_better=False, reference=0.0763),
            Metric("brightness error", higher_is_better=False, reference=0.0378),
        ),
    )


class _Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        )
        self.patch = nn.Conv2d(16, 1, 3, padding=1)
        self.edges = nn.Conv2d(16, 1, 3, padding=1)
        self.brightness = nn.Linear(16, 1)

    def forward(self, noisy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Grey levels ``[N, 1, 12, 12]``, edges ``[N, 1, 12, 12]``, brightness ``[N, 1]``."""
        features = self.trunk(noisy)
        levels = _LEVELS * self.patch(features)
        return levels, self.edges(features), self.brightness(features.mean(dim=(2, 3)))


def edges_of(patches: Tensor) -> Tensor:
    """The length of the gradient of brightness, ``[N, 1, H, W]`` from the same.

    Args:
        patches: In [0, 1]; there is no step beyond the last row and column.
    """
    down = F.pad(patches.diff(dim=2), (0, 0, 0, 1))
    right = F.pad(patches.diff(dim=3), (0, 1, 0, 0))
    return (down.square() + right.square()).sqrt()


def draw_patches(generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Noisy and clean patches for training, validation and test.

    Args:
        generator: Decides places and noise.

    Returns:
        ``[N, 1, 12, 12]`` twice for each part, in [0, 1] but for the noise.
    """
    return [_part(*part, generator) for part in PARTS]


def _part(low: float, high: float, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    found = []
    for image in load_photographs():
        height, width = image.shape
        tops = torch.randint(height - SIDE, (count // 2,), generator=generator)
        lefts = torch.randint(
            int(low * width), int(high * width) - SIDE, (count // 2,), generator=generator
        )
        corners = zip(tops.tolist(), lefts.tolist(), strict=True)
        found += [image[top : top + SIDE, left : left + SIDE] for top, left in corners]
    clean = torch.stack(found)[:, None]
    noise = torch.randn(clean.shape, generator=generator)
    return clean + _NOISE / _LEVELS * noise, clean


def _start(seed: int) -> Trial:
    training, validation, test = draw_patches(torch.Generator().manual_seed(seed))
    model = _Trunk()

    def compute_losses(noisy: Tensor, clean: Tensor) -> Mapping[str, Tensor]:
        levels, edges, brightness = model(noisy)
        return {
            "patch": F.mse_loss(levels, _LEVELS * clean),
            "edges": F.mse_loss(edges, edges_of(clean)),
            "brightness": F.l1_loss(brightness, clean.mean(dim=(2, 3))),
        }

    def measure(part: tuple[Tensor, Tensor]) -> dict[str, float]:
        losses = compute_losses(*part)
        return {
            "patch RMSE (grey levels)": float(losses["patch"].sqrt()),
            "edge RMSE": float(losses["edges"].sqrt()),
            "brightness error": float(losses["brightness"]),
        }

    return Trial(
        model=model,
        data=training,
        compute_losses=compute_losses,
        evaluate=lambda: measure(test),
        validate=lambda: measure(validation),
    )
