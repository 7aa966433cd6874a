"""Two heads that contradict each other on part of the data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from equipoise.benchmarks.metrics import Metric
from equipoise.benchmarks.problem import Problem, Trial

INPUTS = 10
OPPOSED = 0.3
"""The share of the data on which the heads want opposite things."""

TASKS = ("agreeing", "opposing")
_LOUDER = 3.0
_WIDTH = 4
_SAMPLES = (2000, 500, 500)
MEAN = "mean share explained"


def conflict() -> Problem:
    r"""One function, and the same with its sign turned on part of the data, three times as loud.

    :math:`f(x) = \tanh(x \cdot a) + \sin(x \cdot b)`. The first head learns ``f``, the second
    :math:`3 s(x) f(x)`, where :math:`s(x) = -1` on the three tenths of the data with the smallest
    :math:`x \cdot c`, and 1 elsewhere. The trunk is a perceptron that ends in four units, and both
    heads read the same affine number of them through a gain of their own: where the signs differ,
    what helps one head harms the other, and there is no capacity that would end it. The metric is
    the share of the targets' variance that is explained, averaged over both.

    Source: an invention; conflict between tasks on part of the data is what Yu et al. 2020 (PCGrad,
    arXiv 2001.06782) and Liu et al. 2021 (CAGrad, arXiv 2110.14048) set out to solve.

    Returns:
        The problem.
    """
    return Problem(
        name="conflict",
        description=(
            "Two tasks read one number, and want opposite signs of it on three tenths of the data; "
            "the second is three times as loud."
        ),
        losses=TASKS,
        metric=MEAN,
        higher_is_better=True,
        start=_start,
        batch_size=100,
        lr=3e-3,
        balancers=("equal", "right", "mtadam", "gradnorm", "pcgrad", "cagrad", "mgda", "upgrad"),
        labels={"equal": "plain sum", "right": "equally loud"},
        steps=1000,
        metrics=(
            Metric(MEAN, higher_is_better=True),
            *(
                Metric(f"share explained of the {task} task", higher_is_better=True)
                for task in TASKS
            ),
        ),
    )


def draw_tasks(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs ``[3000, 10]`` and targets ``[3000, 2]`` of the two heads."""
    x = torch.randn(sum(_SAMPLES), INPUTS, generator=generator)
    a, b, c = torch.randn(3, INPUTS, generator=generator) / INPUTS**0.5
    values = (x @ a).tanh() + (x @ b).sin()
    along = x @ c
    sign = torch.where(along < along.quantile(OPPOSED), -1.0, 1.0)
    return x, torch.stack([values, _LOUDER * sign * values], dim=1)


class _OneNumber(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(INPUTS, 64), nn.ReLU(), nn.Linear(64, _WIDTH), nn.Tanh(), nn.Linear(_WIDTH, 1)
        )
        self.gains = nn.Parameter(torch.ones(len(TASKS)))

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.trunk(x) * self.gains
        return values


def _start(seed: int) -> Trial:
    x, y = draw_tasks(torch.Generator().manual_seed(seed))
    parts = list(zip(x.split(_SAMPLES), y.split(_SAMPLES), strict=True))
    model = _OneNumber()

    def compute_losses(x: Tensor, y: Tensor) -> Mapping[str, Tensor]:
        return dict(zip(TASKS, (model(x) - y).square().mean(dim=0), strict=True))

    def measure(x: Tensor, y: Tensor) -> dict[str, float]:
        shares = (1 - (model(x) - y).square().mean(dim=0) / y.var(dim=0)).tolist()
        named = zip(TASKS, shares, strict=True)
        return {MEAN: sum(shares) / 2, **{f"share explained of the {t} task": s for t, s in named}}

    return Trial(
        model=model,
        data=parts[0],
        compute_losses=compute_losses,
        evaluate=lambda: measure(*parts[2]),
        right_weights={"agreeing": 1.0, "opposing": _LOUDER**-2},
        validate=lambda: measure(*parts[1]),
    )
