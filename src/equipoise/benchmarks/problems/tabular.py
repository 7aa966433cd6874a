"""Seven columns of a table predicted from four, in their natural units."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from equipoise.benchmarks.metrics import Metric
from equipoise.benchmarks.problem import Problem, Trial

TARGETS = ("cholesterol", "ldl", "hdl", "ratio", "triglycerides", "sugar", "progression")
_SPLIT = (262, 90, 90)
_KNOWN = 4


def tabular() -> Problem:
    """Blood values and progress of diabetes from age, sex, body mass index and blood pressure.

    The table of 442 patients that ships with scikit-learn, with its values as they were measured:
    cholesterol, low- and high-density lipoproteins, the ratio of the first to the last, the
    logarithm of triglycerides, blood sugar, and the progression after a year. The losses are mean
    squared errors; the variances of the columns go from 0.3 to 6000. The right weights divide them
    out. The metric is the coefficient of determination on test data, averaged over the columns.

    Source: Efron et al. 2004, Least Angle Regression, whose last column alone is usually predicted.

    Returns:
        The problem.
    """
    return Problem(
        name="tabular",
        description=(
            "A medical table: seven columns are predicted from four, each in its own unit, so "
            "that variances differ by a factor of twenty thousand."
        ),
        losses=TARGETS,
        metric="mean R2",
        higher_is_better=True,
        start=_start,
        batch_size=32,
        lr=3e-3,
        balancers=("equal", "right", "firstvalue", "mtadam", "gradnorm", "uncertainty"),
        labels={"equal": "plain sum", "right": "standardised columns"},
        steps=400,
        metrics=(
            Metric("mean R2", higher_is_better=True),
            *(Metric(f"R2 of {name}", higher_is_better=True) for name in TARGETS),
        ),
    )


def _load_table() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_diabetes

    columns, progression = load_diabetes(return_X_y=True, scaled=False)
    table = torch.tensor(columns, dtype=torch.float32)
    last = torch.tensor(progression, dtype=torch.float32)[:, None]
    return table[:, :_KNOWN], torch.cat([table[:, _KNOWN:], last], dim=1)


def coefficients(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """The coefficient of determination of each column, and their mean.

    Args:
        outputs: ``[N, 7]``, what was predicted.
        targets: ``[N, 7]``.

    Returns:
        1 where all is explained, 0 where the mean of the targets would have done as well.
    """
    unexplained = (outputs - targets).double().square().mean(dim=0)
    variance = targets.double().var(dim=0, unbiased=False)
    found = (1 - unexplained / variance).tolist()
    named = {f"R2 of {name}": value for name, value in zip(TARGETS, found, strict=True)}
    return {"mean R2": sum(found) / len(found), **named}


class _TrunkAndHeads(nn.Module):
    """Knows the means of its targets from the start: what is unequal is the units alone."""

    means: Tensor

    def __init__(self, means: Tensor) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(_KNOWN, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(32, 1) for _ in TARGETS)
        self.register_buffer("means", means)

    def forward(self, known: Tensor) -> Tensor:
        features = self.trunk(known)
        return torch.cat([head(features) for head in self.heads], dim=1) + self.means


def _start(seed: int) -> Trial:
    known, targets = _load_table()
    generator = torch.Generator().manual_seed(seed)
    training, validation, test = torch.randperm(len(known), generator=generator).split(_SPLIT)
    known = (known - known[training].mean(dim=0)) / known[training].std(dim=0)
    model = _TrunkAndHeads(targets[training].mean(dim=0))

    def compute_losses(known: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        errors = (model(known) - targets).square().mean(dim=0)
        return dict(zip(TARGETS, errors, strict=True))

    def measure(part: Tensor) -> dict[str, float]:
        return coefficients(model(known[part]), targets[part])

    weights = 1 / targets[training].var(dim=0)
    return Trial(
        model=model,
        data=(known[training], targets[training]),
        compute_losses=compute_losses,
        evaluate=lambda: measure(test),
        right_weights=dict(zip(TARGETS, weights.tolist(), strict=True)),
        validate=lambda: measure(validation),
    )
