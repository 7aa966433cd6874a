"""Image-to-image translation: from outlines to shaded discs, drawn anew at every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.benchmarks.metrics import Metric
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.problems.super_resolution import critic_loss

SIDE = 16
_DISCS = 3
_MEASURED = 256
_CHANNELS = 16


def image_pairs() -> Problem:
    """An outline in, the shaded picture out: an absolute and an adversarial loss.

    Three discs lie on a 16 x 16 picture. The input is their outlines, the output their surfaces,
    lit from a direction that nothing in the input tells, so that the absolute error alone leads to
    a flat average. A critic sees input and output side by side and takes its own step. pix2pix
    prescribes a weight of 100 for the absolute error and 1 for the adversarial loss. The metric is
    the absolute error on test pairs; how much contrast the pictures have, against the true ones,
    stands beside it.

    Source: Isola et al. 2017 (arXiv 1611.07004), in small; the pairs are generated.

    Returns:
        The problem.
    """
    return Problem(
        name="image_pairs",
        description=(
            "Outlines to shaded pictures with an absolute and an adversarial loss, whose usual "
            "weights are 100 and 1."
        ),
        losses=("absolute", "adversarial"),
        metric="absolute error",
        higher_is_better=False,
        start=_start,
        batch_size=16,
        lr=1e-3,
        balancers=("equal", "right", "mtadam", "firstvalue", "gradnorm", "adaptiveratio"),
        labels={"equal": "plain sum", "right": "prescribed weights"},
        steps=500,
        metrics=(
            Metric("absolute error", higher_is_better=False),
            Metric("contrast error (%)", higher_is_better=False),
        ),
    )


def draw_pairs(count: int) -> tuple[Tensor, Tensor]:
    """Pairs of pictures, from torch's generator.

    Args:
        count: How many.

    Returns:
        ``[N, 1, 16, 16]`` outlines and ``[N, 1, 16, 16]`` shaded discs, both in [0, 1].
    """
    axis = torch.arange(SIDE) + 0.5
    middle = 3 + (SIDE - 6) * torch.rand(count, _DISCS, 2, 1, 1)
    radius = 2 + 2 * torch.rand(count, _DISCS, 1, 1)
    across = (axis[None, :] - middle[:, :, 0]) / radius
    down = (axis[:, None] - middle[:, :, 1]) / radius
    distance = (across.square() + down.square()).sqrt()
    light = 2 * torch.pi * torch.rand(count, 1, 1, 1)
    shade = 0.6 + 0.4 * (light.cos() * across + light.sin() * down)
    outlines = (1 - (distance - 1).abs() * radius).clamp(0, 1).amax(dim=1, keepdim=True)
    surfaces = torch.where(distance < 1, shade, 0.0).amax(dim=1, keepdim=True)
    return outlines, surfaces


def _build_generator() -> nn.Sequential:
    widths = [1, _CHANNELS, _CHANNELS, _CHANNELS]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 5, padding=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(_CHANNELS, 1, 3, padding=1))


def _build_critic() -> nn.Sequential:
    """Judges patches, as pix2pix's does: one number for each."""
    return nn.Sequential(
        nn.Conv2d(2, 16, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 1, 3, padding=1),
    )


def _fixed_pairs(seed: int) -> tuple[Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return draw_pairs(_MEASURED)


def _start(seed: int) -> Trial:
    test, validation = _fixed_pairs(2 * seed), _fixed_pairs(2 * seed + 1)
    generator, critic = _build_generator(), _build_critic()
    of_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)

    def compute_losses(outlines: Tensor, surfaces: Tensor) -> Mapping[str, Tensor]:
        made = generator(outlines)
        judged = critic(torch.cat([outlines, made], dim=1))
        return {
            "absolute": (made - surfaces).abs().mean(),
            "adversarial": F.softplus(-judged).mean(),
        }

    def step(
        update: Callable[[Mapping[str, Tensor]], None], outlines: Tensor, surfaces: Tensor
    ) -> Mapping[str, Tensor]:
        # The critic is no part of what the losses share, and gets no gradient from them.
        critic.requires_grad_(requires_grad=False)
        losses = compute_losses(outlines, surfaces)
        update(losses)
        critic.requires_grad_(requires_grad=True)
        of_critic.zero_grad()
        pairs = [torch.cat([outlines, out], dim=1) for out in (surfaces, generator(outlines))]
        critic_loss(critic, *pairs).backward()
        of_critic.step()
        return losses

    def measure(pairs: tuple[Tensor, Tensor]) -> dict[str, float]:
        outlines, surfaces = pairs
        made = generator(outlines)
        contrast = made.std() / surfaces.std()
        return {
            "absolute error": float((made - surfaces).abs().mean()),
            "contrast error (%)": 100 * abs(float(contrast) - 1),
        }

    return Trial(
        model=generator,
        data=draw_pairs,
        compute_losses=compute_losses,
        evaluate=lambda: measure(test),
        right_weights={"absolute": 100.0, "adversarial": 1.0},
        validate=lambda: measure(validation),
        step=step,
    )
