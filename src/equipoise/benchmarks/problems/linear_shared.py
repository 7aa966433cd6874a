"""A shared linear model too narrow for its tasks: where no static weights reach the middle."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from equipoise.benchmarks.metrics import Metric
from equipoise.benchmarks.problem import Problem, Trial

INPUTS = 20
TASKS = ("first", "second", "third")
_WIDTH = 1
_NOISE = 0.1
_SAMPLES = (2000, 500, 500)
WORST = "share explained of the worst task"


def linear_shared() -> Problem:
    r"""Three linear tasks through one shared unit, :math:`y_i = a_i \, w^T x`.

    The tasks' directions are orthogonal and equally long, up to noise, so the one direction ``w``
    that the tasks share explains :math:`(w \cdot t_i)^2` of task ``i``, and the shares add up to at
    most 1. A weighted sum is maximised where all of ``w`` goes to one task, for whatever weights:
    the balanced points, a third for each, are not reached by static weights, because they lie where
    the front is not convex. The metric is the share explained of the worst task, at most one third.

    Source: Hu et al. 2023 (arXiv 2308.13985): linear scalarisation cannot explore the
    front of an under-parametrised linear model.

    Returns:
        The problem.
    """
    return Problem(
        name="linear_shared",
        description=(
            "Three linear tasks through one shared unit: whatever its static weights, a sum gives "
            "all of it to one task."
        ),
        losses=TASKS,
        metric=WORST,
        higher_is_better=True,
        start=_start,
        batch_size=100,
        lr=1e-2,
        balancers=("equal", "mtadam", "gradnorm", "uncertainty", "mgda", "famo", "stch", "imtlg"),
        labels={"equal": "plain sum"},
        steps=1500,
        metrics=(
            Metric(WORST, higher_is_better=True),
            *(Metric(f"share explained of the {task}", higher_is_better=True) for task in TASKS),
        ),
    )


def _start(seed: int) -> Trial:
    generator = torch.Generator().manual_seed(seed)
    directions, _ = torch.linalg.qr(torch.randn(INPUTS, len(TASKS), generator=generator))
    inputs = torch.randn(sum(_SAMPLES), INPUTS, generator=generator)
    noise = torch.randn(len(inputs), len(TASKS), generator=generator)
    targets = inputs @ directions + _NOISE * noise
    parts = list(zip(inputs.split(_SAMPLES), targets.split(_SAMPLES), strict=True))
    trunk = nn.Linear(INPUTS, _WIDTH, bias=False)
    heads = nn.ModuleList(nn.Linear(_WIDTH, 1, bias=False) for _ in TASKS)

    def errors(x: Tensor, y: Tensor) -> Tensor:
        shared = trunk(x)
        outputs = torch.cat([head(shared) for head in heads], dim=1)
        return (outputs - y).square().mean(dim=0)

    def compute_losses(x: Tensor, y: Tensor) -> Mapping[str, Tensor]:
        return dict(zip(TASKS, errors(x, y), strict=True))

    def measure(x: Tensor, y: Tensor) -> dict[str, float]:
        shares = (1 - errors(x, y) / y.square().mean(dim=0)).tolist()
        named = zip(TASKS, shares, strict=True)
        return {WORST: min(shares), **{f"share explained of the {t}": s for t, s in named}}

    return Trial(
        model=nn.ModuleList([trunk, heads]),
        data=parts[0],
        compute_losses=compute_losses,
        evaluate=lambda: measure(*parts[2]),
        validate=lambda: measure(*parts[1]),
    )
