"""Super-resolution of photograph patches, with an adversarial loss of the wrong weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.benchmarks.metrics import Metric
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.problems.pictures import load_photographs

SIDE = 16
PRESCRIBED = {"pixel": 1.0, "feature": 1.0, "adversarial": 1e-3}

_TRAINING, _TEST = 0.70, 0.86
"""Where training ends and test begins, in widths of a photograph from the left."""

_PATCHES = {"training": 2000, "validation": 300, "test": 300}
_CHANNELS = 24


def super_resolution() -> Problem:
    """Patches of 16 x 16 from 8 x 8, with pixel, feature and adversarial losses.

    A generator of four convolutions adds detail to the bilinearly enlarged patch. The losses are
    the mean squared error of the pixels, that of the features of a fixed random network, and
    ``-log D`` of a critic, which takes its own step after each of the generator's. The weights that
    SRGAN prescribes are 1, 1 and 0.001; the plain sum gives the adversarial loss a thousand times
    as much. The metric is the peak signal-to-noise ratio on test patches, cut from the right
    seventh of both photographs; training patches come from the left 70 percent.

    Source: Malkiel & Wolf 2020 (arXiv 2006.14683), after SRGAN (Ledig et al. 2017,
    arXiv 1609.04802), in small: features of a random network in place of VGG's, which would have to
    be downloaded.

    Returns:
        The problem.
    """
    return Problem(
        name="super_resolution",
        description=(
            "Super-resolution of photograph patches with pixel, feature and adversarial losses, "
            "the last a thousand times too heavy."
        ),
        losses=tuple(PRESCRIBED),
        metric="PSNR (dB)",
        higher_is_better=True,
        start=_start,
        batch_size=8,
        lr=1e-3,
        balancers=("equal", "right", "mtadam", "mtadam:ranks=1/1/0.1", "firstvalue", "gradnorm"),
        labels={"equal": "plain sum", "right": "prescribed weights"},
        steps=300,
        metrics=(
            Metric("PSNR (dB)", higher_is_better=True),
            Metric("feature error", higher_is_better=False),
        ),
    )


def cut_patches(seed: int) -> dict[str, Tensor]:
    """Patches of both photographs, each part from its own strip of them.

    Args:
        seed: Decides where they are cut.

    Returns:
        ``[N, 1, 16, 16]`` for ``"training"``, ``"validation"`` and ``"test"``.
    """
    generator = torch.Generator().manual_seed(seed)
    photographs = torch.stack(load_photographs())
    edges = [int(share * photographs.shape[2]) for share in (0, _TRAINING, _TEST, 1)]
    strips = photographs.tensor_split(edges[1:-1], dim=2)
    return {
        part: _cut(strip, count, generator)
        for (part, count), strip in zip(_PATCHES.items(), strips, strict=True)
    }


def _cut(pictures: Tensor, count: int, generator: torch.Generator) -> Tensor:
    room = torch.tensor(pictures.shape) - torch.tensor([0, SIDE - 1, SIDE - 1])
    places = (torch.rand(count, 3, generator=generator) * room).long().tolist()
    cut = [pictures[which, y : y + SIDE, x : x + SIDE] for which, y, x in places]
    return torch.stack(cut)[:, None]


class _Generator(nn.Module):
    """Adds what it has learned to the enlarged patch."""

    def __init__(self) -> None:
        super().__init__()
        widths = [1, _CHANNELS, _CHANNELS, _CHANNELS]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        self.detail = nn.Sequential(*layers, nn.Conv2d(_CHANNELS, 1, 3, padding=1))

    def forward(self, small: Tensor) -> Tensor:
        large = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        made: Tensor = large + self.detail(large)
        return made


def _build_critic() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(32 * 16, 1),
    )


def _build_features() -> nn.Sequential:
    """Random and fixed: edges of all kinds, as the first layers of any trained network."""
    layers = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2, padding=1)
    )
    return layers.requires_grad_(requires_grad=False)


def critic_loss(critic: nn.Module, real: Tensor, made: Tensor) -> Tensor:
    """What a critic minimises: the cross-entropy of telling real from made, averaged over both."""
    return (F.softplus(-critic(real)) + F.softplus(critic(made.detach()))).mean() / 2


def shrink(patches: Tensor) -> Tensor:
    """Half the size, each pixel the mean of four."""
    return F.avg_pool2d(patches, 2)


def _start(seed: int) -> Trial:
    patches = cut_patches(seed)
    generator, critic, features = _Generator(), _build_critic(), _build_features()
    of_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)

    def compute_losses(large: Tensor) -> Mapping[str, Tensor]:
        made = generator(shrink(large))
        return {
            "pixel": F.mse_loss(made, large),
            "feature": F.mse_loss(features(made), features(large)),
            "adversarial": F.softplus(-critic(made)).mean(),
        }

    def step(update: Callable[[Mapping[str, Tensor]], None], large: Tensor) -> Mapping[str, Tensor]:
        # The critic is no part of what the losses share, and gets no gradient from them.
        critic.requires_grad_(requires_grad=False)
        losses = compute_losses(large)
        update(losses)
        critic.requires_grad_(requires_grad=True)
        of_critic.zero_grad()
        critic_loss(critic, large, generator(shrink(large))).backward()
        of_critic.step()
        return losses

    def measure(large: Tensor) -> dict[str, float]:
        made = generator(shrink(large))
        # Averaged over the patches, each with its own ratio, in decibels for pixels in [0, 1].
        errors = (made - large).square().mean(dim=(1, 2, 3))
        return {
            "PSNR (dB)": float(-10 * errors.log10().mean()),
            "feature error": float(F.mse_loss(features(made), features(large))),
        }

    return Trial(
        model=generator,
        data=(patches["training"],),
        compute_losses=compute_losses,
        evaluate=lambda: measure(patches["test"]),
        right_weights=PRESCRIBED,
        validate=lambda: measure(patches["validation"]),
        step=step,
    )
