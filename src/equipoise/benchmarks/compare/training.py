"""One run: one method on one seed of a problem, from the first step to the last."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from equipoise.benchmarks.compare.fingerprint import UNKNOWN, Fingerprint
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.run import DIVERGED, Number, ProblemFacts, Run, Trajectory
from equipoise.benchmarks.compare.trainers import Trainer, build_trainer
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.problem import Problem, Trial

OnStep: TypeAlias = Callable[[int, float], None]
"""Called after each step with its number and the metric as it was last measured."""

_RECORDED_POINTS = 60
_METRIC_POINTS = 20

MAY_FAIL = (ArithmeticError, RuntimeError, TypeError, ValueError)
"""What methods raise on numbers that they cannot work with; other errors are nobody's result."""


def start_trial(problem: Problem, seed: int) -> Trial:
    """A fresh trial, the same whenever and after whatever it is started.

    Args:
        problem: The problem.
        seed: Its seed.

    Returns:
        The trial; the global random generator stands as the seed leaves it.
    """
    torch.manual_seed(seed)
    trial = problem.start(seed)
    torch.manual_seed(seed)
    return trial


def steps_per_epoch(trial: Trial, options: TrainingOptions) -> int:
    """How many whole batches an epoch has, at least one."""
    return max(1, len(trial.data[0]) // options.batch_size)


def batches(trial: Trial, options: TrainingOptions, seed: int) -> Iterator[tuple[Tensor, ...]]:
    """The batches of a run, in an order that only the seed decides.

    Args:
        trial: Holds the data.
        options: Batch size and number of epochs.
        seed: Decides the order.

    Yields:
        The samples of one batch, from each tensor of the data.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(options.epochs):
        order = torch.randperm(len(trial.data[0]), generator=generator)
        for chosen in order.split(options.batch_size)[: steps_per_epoch(trial, options)]:
            yield tuple(tensor[chosen] for tensor in trial.data)


def train(
    problem: Problem,
    method: Method,
    options: TrainingOptions,
    seed: int,
    watch: OnStep,
    fingerprint: Fingerprint = UNKNOWN,
) -> Run:
    """Trains once.

    Args:
        problem: What.
        method: With which method.
        options: For how long, in which batches, how fast.
        seed: Decides the initial parameters, the data and their order.
        watch: Is told of every step.
        fingerprint: The problem's, to be written down with the run.

    Returns:
        The finished run, which tells whether it failed.

    Raises:
        RequestError: If the method cannot be built for the problem.
    """
    started = time.perf_counter()
    trial = start_trial(problem, seed)
    trainer = build_trainer(method, problem, trial, options.lr)
    total = options.epochs * steps_per_epoch(trial, options)
    recorder = _Recorder(problem.losses, trial, total)
    failure = _take_steps(trial, trainer, batches(trial, options, seed), recorder, watch)
    return Run(
        problem=facts_of(problem),
        options=options,
        balancer=method.label,
        seed=seed,
        metric=recorder.metric_curve[-1],
        metric_steps=recorder.metric_steps,
        metric_curve=recorder.metric_curve,
        trajectory=recorder.trajectory,
        seconds=time.perf_counter() - started,
        failure=failure,
        fingerprint=fingerprint,
    )


def _take_steps(
    trial: Trial,
    trainer: Trainer,
    stream: Iterator[tuple[Tensor, ...]],
    recorder: _Recorder,
    watch: OnStep,
) -> str | None:
    """The whole training; returns how it failed, if it did.

    An error of the method is a result, and the runs after it go on. An error of the problem is
    none, unless the method has ruined the model that the problem was asked about.
    """
    for step, batch in enumerate(stream, start=1):
        try:
            losses = trial.compute_losses(*batch)
            error = _error_of(trainer, losses)
            if error is None:
                recorder.record(step, losses, trainer)
        except MAY_FAIL:
            if _is_sound(trial):
                raise
            error = DIVERGED
        if error is not None:
            recorder.end(step)
            return error if error == DIVERGED else f"step {step}: {error}"
        watch(step, recorder.metric)
    return None if math.isfinite(recorder.metric) and _is_sound(trial) else DIVERGED


def _error_of(trainer: Trainer, losses: Mapping[str, Tensor]) -> str | None:
    try:
        trainer.step(losses)
    except MAY_FAIL as error:
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _is_sound(trial: Trial) -> bool:
    """Whether the model is still one."""
    return all(bool(parameter.isfinite().all()) for parameter in trial.model.parameters())


def facts_of(problem: Problem) -> ProblemFacts:
    """What of a problem is written down with each run."""
    return ProblemFacts(
        name=problem.name,
        description=problem.description,
        metric=problem.metric,
        higher_is_better=problem.higher_is_better,
        labels=dict(problem.labels),
    )


@dataclass
class _Recorder:
    """Keeps some points of a run, so few that recording costs next to nothing."""

    losses: tuple[str, ...]
    trial: Trial
    total: int
    metric: float = field(init=False)
    metric_steps: list[int] = field(default_factory=list)
    metric_curve: list[Number] = field(default_factory=list)
    trajectory: Trajectory = field(init=False)

    def __post_init__(self) -> None:
        self.trajectory = Trajectory(
            steps=[],
            losses={name: [] for name in self.losses},
            weights={name: [] for name in self.losses},
        )
        self._measure_metric(0)

    def record(self, step: int, losses: Mapping[str, Tensor], trainer: Trainer) -> None:
        if self._is_due(step, _RECORDED_POINTS):
            weights = trainer.weights()
            self.trajectory.steps.append(step)
            for name in self.losses:
                loss = losses.get(name)
                value, weight = (None, None) if loss is None else (loss.item(), weights[name])
                self.trajectory.losses[name].append(_finite(value))
                self.trajectory.weights[name].append(_finite(weight))
        if self._is_due(step, _METRIC_POINTS):
            self._measure_metric(step)

    def end(self, step: int) -> None:
        """Leaves out what a run that stops at this step would still have recorded."""
        self.metric = math.nan
        for later in range(step, self.total + 1):
            if self._is_due(later, _RECORDED_POINTS) and later not in self.trajectory.steps:
                self.trajectory.steps.append(later)
                for name in self.losses:
                    self.trajectory.losses[name].append(None)
                    self.trajectory.weights[name].append(None)
            if self._is_due(later, _METRIC_POINTS):
                self.metric_steps.append(later)
                self.metric_curve.append(None)

    def _is_due(self, step: int, points: int) -> bool:
        return step == self.total or step % max(1, self.total // points) == 0

    def _measure_metric(self, step: int) -> None:
        self.metric = self.trial.evaluate()
        self.metric_steps.append(step)
        self.metric_curve.append(_finite(self.metric))


def _finite(value: Number) -> Number:
    return value if value is not None and math.isfinite(value) else None
