"""What is kept of a run while it goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from equipoise.benchmarks.compare.run import Number, Trajectory
from equipoise.benchmarks.compare.trainers import Trainer
from equipoise.benchmarks.measuring import measuring
from equipoise.benchmarks.problem import Problem, Trial

_RECORDED_POINTS = 60
_METRIC_POINTS = 20

_BLOWN_UP = 10.0
"""How much larger than at first losses are at the end of a run that went the wrong way."""


@dataclass
class Recorder:
    """Keeps some points of a run, so few that recording costs next to nothing.

    Args:
        problem: Names losses and metrics.
        trial: What is measured, the first time at once.
        total: How many steps the run has.
    """

    problem: Problem
    trial: Trial
    total: int
    metric: float = field(init=False)
    metric_steps: list[int] = field(default_factory=list)
    metric_curve: list[Number] = field(default_factory=list)
    metrics: dict[str, list[Number]] = field(init=False)
    validation_curve: list[Number] = field(default_factory=list)
    trajectory: Trajectory = field(init=False)
    _first: dict[str, float] = field(default_factory=dict, init=False)
    _newest: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Measures the model as it is before the first step."""
        names = self.problem.losses
        self.trajectory = Trajectory([], {name: [] for name in names}, {name: [] for name in names})
        self.metrics = {metric.name: [] for metric in self.problem.metrics}
        self._measure(0)

    def record(self, step: int, losses: Mapping[str, Tensor], trainer: Trainer) -> None:
        """Keeps what a step gave, if it is one of those that are kept.

        Args:
            step: Its number, from 1.
            losses: What it was taken with.
            trainer: Tells the weights.
        """
        for name in losses.keys() - self._first.keys():
            self._first[name] = abs(losses[name].item())
        if self.is_due(step):
            self._newest |= {name: abs(loss.item()) for name, loss in losses.items()}
            self._keep(step, losses, trainer.weights())
        if self._is_due(step, _METRIC_POINTS):
            self._measure(step)

    def record_end(self) -> None:
        """Measures what `Trial.finish` has made of the model, as one step more than were taken.

        So the metric before it stays known: what a run was worth at some moment of its training is
        compared without what comes after.
        """
        self._measure(self.total + 1)

    def is_due(self, step: int) -> bool:
        """Whether this step is one of those that are kept."""
        return self._is_due(step, _RECORDED_POINTS)

    @property
    def blew_up(self) -> bool:
        """Whether the model is worse than before it was trained, and its losses far larger.

        An optimizer such as Adam takes steps of bounded length, so that a training that goes the
        wrong way may end with finite numbers, of any size.
        """
        start = self.metric_curve[0]
        if start is None or not self._newest:
            return False
        worse = self.metric < start if self.problem.higher_is_better else self.metric > start
        # Turned round, so that a loss that is not a number is no small one.
        small = sum(self._newest.values()) <= _BLOWN_UP * sum(self._first.values())
        return worse and not small

    def end(self, step: int) -> None:
        """Leaves out what a run that stops at this step would still have recorded."""
        self.metric = math.nan
        for later in range(step, self.total + 1):
            if self.is_due(later) and later not in self.trajectory.steps:
                self._keep(later, {}, {})
            if self._is_due(later, _METRIC_POINTS) and later not in self.metric_steps:
                self._note(later, math.nan, {}, math.nan)
        if self.trial.finish is not None:
            self._note(self.total + 1, math.nan, {}, math.nan)

    def _keep(self, step: int, losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> None:
        self.trajectory.steps.append(step)
        for name in self.problem.losses:
            loss = losses.get(name)
            value, weight = (None, None) if loss is None else (loss.item(), weights[name])
            self.trajectory.losses[name].append(_finite(value))
            self.trajectory.weights[name].append(_finite(weight))

    def _is_due(self, step: int, points: int) -> bool:
        return step == self.total or step % max(1, self.total // points) == 0

    def _measure(self, step: int) -> None:
        trial, judge = self.trial, self.problem.judge
        with measuring(trial.model):
            self.metric, metrics = judge(trial.evaluate())
            validation = math.nan if trial.validate is None else judge(trial.validate())[0]
        self._note(step, self.metric, metrics, validation)

    def _note(
        self, step: int, metric: float, metrics: Mapping[str, float], validation: float
    ) -> None:
        self.metric_steps.append(step)
        self.metric_curve.append(_finite(metric))
        for name, curve in self.metrics.items():
            curve.append(_finite(metrics.get(name)))
        if self.trial.validate is not None:
            self.validation_curve.append(_finite(validation))


def _finite(value: Number) -> Number:
    return value if value is not None and math.isfinite(value) else None
