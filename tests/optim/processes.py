"""Training runs of several processes, and of one that stands for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from equipoise.optim import MTAdam
from tests.models import MultiHead

NAMES = ("a", "b", "c")
STEPS = 10
BAD = float("nan")


@dataclass(frozen=True)
class Plan:
    """A training run that any number of processes can share.

    ``absent`` and ``spoiled`` name (step, loss) pairs that only the last process lacks or spoils;
    ``spoiled`` are NaN losses, ``steep`` finite losses with an infinite gradient. ``beside``: the
    heads are trained by another optimizer.
    """

    options: Mapping[str, object] = field(default_factory=dict)
    optimizer: type[Optimizer] = MTAdam
    wrapped: Mapping[str, bool] | None = None
    micro_batches: int = 1
    scaled: bool = False
    absent: frozenset[tuple[int, str]] = frozenset()
    spoiled: frozenset[tuple[int, str]] = frozenset()
    steep: frozenset[tuple[int, str]] = frozenset()
    beside: bool = False


def run(plan: Plan, parts: Sequence[int], world: int) -> list[Tensor]:
    """Trains on the given parts of every batch, and returns the parameters and all state."""
    torch.manual_seed(0)
    model = MultiHead(len(NAMES))
    module: nn.Module = model
    if plan.wrapped is not None and len(parts) < world:
        module = DistributedDataParallel(model, **plan.wrapped)
    own = model.trunk if plan.beside else model
    optimizer = plan.optimizer(own.named_parameters(), lr=0.01, losses=NAMES, **plan.options)
    other = torch.optim.SGD(model.heads.parameters(), lr=0.1) if plan.beside else None
    scaler = GradScaler("cpu", init_scale=2.0**10) if plan.scaled else None
    for step in range(STEPS):
        batch = torch.randn(12, 4, dtype=torch.float64, generator=_seeded(step)).chunk(world)
        optimizer.zero_grad()
        _step(plan, step, optimizer, scaler, [(p, module, batch[p]) for p in parts], world)
        if other is not None:
            other.step()
            other.zero_grad()
    state = [
        value.double().flatten()
        for p in own.parameters()
        for _, value in sorted(optimizer.state[p].items())
    ]
    counts = torch.tensor([optimizer.skipped, *optimizer.rested.values()])
    return [*(p.detach() for p in model.parameters()), *state, counts]


def _seeded(step: int) -> torch.Generator:
    return torch.Generator().manual_seed(step)


def _step(plan, step, optimizer, scaler, work, world):
    for index in range(plan.micro_batches):
        parts = [
            _losses(plan, step, module, batch.chunk(plan.micro_batches)[index], part == world - 1)
            for part, module, batch in work
        ]
        losses = _mean(parts, plan.micro_batches, len(parts))
        if index < plan.micro_batches - 1:
            with optimizer.accumulate():
                optimizer.backward(losses, scaler=scaler)
        else:
            optimizer.backward(losses, scaler=scaler)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def _losses(plan, step, module, x, last):
    losses = dict(zip(NAMES, module(x), strict=True))
    for name in NAMES if last else ():
        if (step, name) in plan.spoiled:
            losses[name] = losses[name] * BAD
        if (step, name) in plan.steep:
            losses[name] = (losses[name] - losses[name].detach()).abs().sqrt()
        if (step, name) in plan.absent:
            del losses[name]
    return losses


def _mean(parts, micro_batches, count):
    """One process counts a loss that a part lacks as zero, as many processes do."""
    return {
        name: sum(losses[name] for losses in parts if name in losses) / (micro_batches * count)
        for name in NAMES
        if any(name in losses for losses in parts)
    }
