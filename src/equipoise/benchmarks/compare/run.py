"""One finished run: what was trained, how it went, and what makes two runs the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TypeAlias

from equipoise.benchmarks.compare.fingerprint import UNKNOWN, Fingerprint
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.metrics import Metric
from equipoise.benchmarks.schema import conform, read_json

Number: TypeAlias = float | None
"""``None`` stands for a value that was absent or not finite: JSON has neither."""

DIVERGED = "diverged"
"""The failure of a run whose metric or parameters are not finite at its end."""


@dataclass(frozen=True)
class ProblemFacts:
    """What a report must know of a problem when its code is not at hand.

    Args:
        name: The problem's name.
        description: One sentence.
        metric: What was measured.
        higher_is_better: Whether a larger metric is a better one.
        labels: What some methods' rows are called.
        metrics: What was measured, where it was several things; ``metric`` is one of them, or
            sums them up.
    """

    name: str
    description: str
    metric: str
    higher_is_better: bool
    labels: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)


@dataclass(frozen=True)
class Trajectory:
    """What was recorded every few steps of a run.

    Args:
        steps: ``[K]``, the numbers of the steps, from 1.
        losses: ``[K]`` values for each loss, on the batch of that step.
        weights: ``[K]`` weights for each loss, as applied in that step.
    """

    steps: list[int]
    losses: dict[str, list[Number]]
    weights: dict[str, list[Number]]


@dataclass(frozen=True)
class Experiment:
    """What runs must have in common to be compared.

    Args:
        problem: Its name.
        options: How it was trained.
        fingerprint: What it was, and what it was computed with.
    """

    problem: str
    options: TrainingOptions
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Run:
    """One finished run.

    Args:
        problem: What was trained.
        options: How.
        balancer: The method's label.
        seed: The seed.
        metric: The metric after the last step.
        metric_steps: ``[M]``, the steps after which the metric was measured, from 0; what ends a
            training after its last step (`Trial.finish`) counts as one step more.
        metric_curve: ``[M]``, its values.
        trajectory: Losses and weights.
        seconds: How long the run took.
        failure: How it failed, `DIVERGED` or the error that stopped it; ``None`` if it did not.
        fingerprint: What the problem was, and what it was computed with; unknown in results of
            versions that did not write it.
        metrics: ``[M]`` values for each of the problem's metrics, on test data.
        validation_curve: ``[M]``, the metric on validation data; empty where there are none.

    Raises:
        ValueError: If the parts do not fit together.
    """

    problem: ProblemFacts
    options: TrainingOptions
    balancer: str
    seed: int
    metric: Number
    metric_steps: list[int]
    metric_curve: list[Number]
    trajectory: Trajectory
    seconds: float
    failure: str | None = None
    fingerprint: Fingerprint = UNKNOWN
    metrics: dict[str, list[Number]] = field(default_factory=dict)
    validation_curve: list[Number] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuses what would fail, or mislead, once it is drawn beside other runs."""
        losses, weights = self.trajectory.losses, self.trajectory.weights
        measured = {"metric_curve": self.metric_curve}
        measured |= {f"metrics.{name}": curve for name, curve in self.metrics.items()}
        measured |= {"validation_curve": self.validation_curve} if self.validation_curve else {}
        for name, curve in measured.items():
            _check_curve(name, self.metric_steps, curve)
        if not losses:
            raise ValueError("trajectory.losses names no loss")
        if set(losses) != set(weights):
            raise ValueError("trajectory.weights has other names than trajectory.losses")
        for kind, values in (("losses", losses), ("weights", weights)):
            for name, curve in values.items():
                _check_curve(f"trajectory.{kind}.{name}", self.trajectory.steps, curve)

    @property
    def validation(self) -> Number:
        """The metric on validation data after the last step; ``None`` where there are none."""
        return self.validation_curve[-1] if self.validation_curve else None

    @property
    def failed(self) -> bool:
        """Whether the run has no result that counts."""
        return self.failure is not None or self.metric is None

    @property
    def experiment(self) -> Experiment:
        """What it has in common with the runs that it is compared with."""
        return Experiment(self.problem.name, self.options, self.fingerprint)

    @property
    def key(self) -> tuple[Experiment, str, int]:
        """What makes two runs the same run."""
        return self.experiment, self.balancer, self.seed

    def to_line(self) -> str:
        """The run as one line of JSON, without its line end."""
        return json.dumps(asdict(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str | bytes) -> Run:
        """The run that `to_line` wrote.

        Raises:
            ValueError: If the line is not whole, or holds something else.
        """
        run = conform(cls, read_json(line))
        if run.metric != run.metric_curve[-1]:
            raise ValueError("metric is not the last of metric_curve")
        return run


def _check_curve(name: str, steps: Sequence[int], values: Sequence[Number]) -> None:
    if len(steps) != len(values):
        raise ValueError(f"{name} has {len(values)} values at {len(steps)} steps")
    if not steps:
        raise ValueError(f"{name} is empty")
    if any(after <= before for before, after in pairwise(steps)):
        raise ValueError(f"the steps of {name} do not rise")
