"""Problems whose diagnosis is known beforehand, of several kinds of model, size and noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LossesOf = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Setting:
    """How a problem is built: parameters shared, losses, batches and samples in each."""

    width: int
    losses: int
    batches: int
    samples: int


SETTINGS = (
    Setting(width=6, losses=2, batches=10, samples=32),
    Setting(width=20, losses=2, batches=20, samples=8),
    Setting(width=50, losses=3, batches=12, samples=128),
    Setting(width=200, losses=10, batches=15, samples=16),
)


def directions(losses: int, width: int, cosine: float, generator: torch.Generator) -> Tensor:
    """Unit vectors, ``[T, width]``: the first two at this cosine, all others like the first."""
    q, _ = torch.linalg.qr(torch.randn(width, 2, generator=generator))
    first, across = q.T
    second = cosine * first + math.sqrt(1 - cosine**2) * across
    return torch.stack([first, second, *[first] * (losses - 2)])


def linear(setting: Setting, seed: int, goals: Tensor, noise: float) -> tuple[LossesOf, list]:
    """Quadratic bowls: the gradient of loss ``i`` is its goal, plus noise from sample to sample."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.zeros(setting.width, requires_grad=True)
    shape = (setting.samples, setting.losses, setting.width)
    batches = [torch.randn(shape, generator=generator) for _ in range(setting.batches)]
    sizes = goals.norm(dim=1).clamp(min=1e-12)[:, None]

    def losses_of(x: Tensor) -> Mapping[str, Tensor]:
        targets = goals + noise * sizes * x / math.sqrt(setting.width)
        errors = sizes[:, 0] * (shared - targets / sizes).square().sum(dim=2) / 2
        return {f"l{i}": loss for i, loss in enumerate(errors.mean(dim=0))}

    return losses_of, batches


def layered(setting: Setting, seed: int, scales: list[float], sign: float) -> tuple[LossesOf, list]:
    """A network with a trunk and regression heads that start from one head, up to signs.

    Every target is the same function of the input, with noise of its own; that of the second loss
    has ``sign``. Heads are equal at the start, so gradients of the trunk agree, or are opposed.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    trunk = nn.Sequential(nn.Linear(8, setting.width), nn.Tanh())
    heads = nn.ModuleList(nn.Linear(setting.width, 1) for _ in range(setting.losses))
    for head in heads:
        head.load_state_dict(heads[0].state_dict())
    teacher = torch.randn(8, generator=generator)
    signs = torch.tensor([1.0, sign] + [1.0] * (setting.losses - 2))
    batches = [
        torch.randn(setting.samples, 8 + setting.losses, generator=generator)
        for _ in range(setting.batches)
    ]

    def losses_of(x: Tensor) -> Mapping[str, Tensor]:
        hidden = trunk(x[:, :8])
        wanted = 3 * (x[:, :8] @ teacher)[:, None] * signs + 0.3 * x[:, 8:]
        found = torch.cat([head(hidden) for head in heads], dim=1)
        errors = (found - wanted).square().mean(dim=0)
        return {f"l{i}": scales[i] * error for i, error in enumerate(errors)}

    return losses_of, batches


def aligned(setting: Setting, seed: int, ratio: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    goals = directions(setting.losses, setting.width, 0.6, generator)
    return goals * torch.tensor([ratio] + [1.0] * (setting.losses - 1))[:, None]


def opposed(setting: Setting, seed: int, ratio: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    goals = directions(setting.losses, setting.width, -0.8, generator)
    return goals * torch.tensor([ratio] + [1.0] * (setting.losses - 1))[:, None]


def pure_noise(setting: Setting, seed: int) -> tuple[LossesOf, list]:
    """Gradients that differ from batch to batch and have nothing in common."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.zeros(setting.width, requires_grad=True)
    shape = (setting.losses, setting.width)
    batches = [torch.randn(shape, generator=generator) for _ in range(setting.batches)]
    return lambda x: {f"l{i}": g @ shared + 1 for i, g in enumerate(x)}, batches


def opposed_noise(setting: Setting, seed: int, ratio: float) -> tuple[LossesOf, list]:
    """The first two gradients go nowhere over the batches, but in each of them apart."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.zeros(setting.width, requires_grad=True)
    shape = (setting.losses, setting.width)
    batches = [torch.randn(shape, generator=generator) for _ in range(setting.batches)]
    scales = [ratio] + [1.0] * (setting.losses - 1)

    def losses_of(x: Tensor) -> Mapping[str, Tensor]:
        second = 0.3 * x[1] - x[0]
        gradients = [x[0], second, *x[2:]]
        return {
            f"l{i}": k * g @ shared + 1
            for i, (k, g) in enumerate(zip(scales, gradients, strict=True))
        }

    return losses_of, batches


def opposed_samples(setting: Setting, seed: int) -> tuple[LossesOf, list]:
    """Two targets of opposite sign for one output: every batch of an epoch once, none twice."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.zeros(setting.width, requires_grad=True)
    count = setting.batches * setting.samples
    goals = torch.randn(count, setting.width, generator=generator)
    batches = list((goals - goals.mean(dim=0)).split(setting.samples))

    def losses_of(x: Tensor) -> Mapping[str, Tensor]:
        signs = [1.0, *[-1.0] * (setting.losses - 1)]
        return {f"l{i}": (shared - s * x).square().mean() for i, s in enumerate(signs)}

    return losses_of, batches


def with_zero(setting: Setting, seed: int) -> tuple[LossesOf, list]:
    """Well-behaved, but for one more loss that is zero and has a zero gradient."""
    inner, batches = linear(setting, seed, aligned(setting, seed, 1.0), 0.5)

    def losses_of(x: Tensor) -> Mapping[str, Tensor]:
        losses = inner(x)
        return {**losses, "zero": torch.relu(losses["l0"] * -1 - 1)}

    return losses_of, batches


def nothing_shared(setting: Setting, seed: int) -> tuple[LossesOf, list]:
    """Each loss has a model of its own."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(setting.losses, setting.width, generator=generator)
    parts = [row.clone().requires_grad_() for row in own]
    shape = (setting.samples, setting.width)
    batches = [torch.randn(shape, generator=generator) for _ in range(setting.batches)]
    return lambda x: {f"l{i}": (x @ p - 1).square().mean() for i, p in enumerate(parts)}, batches


def _scales(setting: Setting, first: float) -> list[float]:
    return [first] + [1.0] * (setting.losses - 1)


KINDS: dict[str, tuple[str, Callable[[Setting, int], tuple[LossesOf, list]]]] = {
    "scale, linear": ("scale", lambda s, k: linear(s, k, aligned(s, k, 300.0), 1.0)),
    "scale, noisy": ("scale", lambda s, k: linear(s, k, aligned(s, k, 1 / 300), 4.0)),
    "scale, network": ("scale", lambda s, k: layered(s, k, _scales(s, 300.0), 1.0)),
    "conflict, linear": ("conflict", lambda s, k: linear(s, k, opposed(s, k, 1.0), 1.0)),
    "conflict, noisy": ("conflict", lambda s, k: linear(s, k, opposed(s, k, 1.0), 3.0)),
    "conflict, network": ("conflict", lambda s, k: layered(s, k, _scales(s, 1.0), -1.0)),
    "conflict, in each batch": ("conflict", lambda s, k: opposed_noise(s, k, 1.0)),
    "conflict, in each sample": ("conflict", opposed_samples),
    "both, in each batch": ("both", lambda s, k: opposed_noise(s, k, 300.0)),
    "both, linear": ("both", lambda s, k: linear(s, k, opposed(s, k, 300.0), 1.0)),
    "both, network": ("both", lambda s, k: layered(s, k, _scales(s, 300.0), -1.0)),
    "noise, pure": ("noise", pure_noise),
    "noise, nearly": ("noise", lambda s, k: linear(s, k, aligned(s, k, 1.0), 60.0)),
    "fine, linear": ("fine", lambda s, k: linear(s, k, aligned(s, k, 2.0), 1.0)),
    "fine, noisy": ("fine", lambda s, k: linear(s, k, aligned(s, k, 1.0), 3.0)),
    "fine, network": ("fine", lambda s, k: layered(s, k, _scales(s, 1.0), 1.0)),
    "fine, with a zero loss": ("fine", with_zero),
    "fine, nothing shared": ("fine", nothing_shared),
}
