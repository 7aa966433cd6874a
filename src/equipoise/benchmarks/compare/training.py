"""One run: one method on one seed of a problem, from the first step to the last."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from torch import Tensor

from equipoise.benchmarks.compare.fingerprint import UNKNOWN, Fingerprint
from equipoise.benchmarks.compare.honest import Watched, withheld
from equipoise.benchmarks.compare.recorder import Recorder
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.run import DIVERGED, ProblemFacts, Run
from equipoise.benchmarks.compare.stream import Batch, batches, run_length
from equipoise.benchmarks.compare.trainers import Trainer, build_trainer
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.random_numbers import seed_all

OnStep: TypeAlias = Callable[[int, float], None]
"""Called after each step with its number and the metric as it was last measured."""

MAY_FAIL = (ArithmeticError, RuntimeError, TypeError, ValueError)
"""What methods raise on numbers that they cannot work with; other errors are nobody's result."""


class MethodError(Exception):
    """An error of the method, told apart from those of the problem around it."""


def start_trial(problem: Problem, seed: int) -> Trial:
    """A fresh trial, the same whenever and after whatever it is started.

    Args:
        problem: The problem.
        seed: Its seed.

    Returns:
        The trial; the global random generators stand as the seed leaves them.
    """
    seed_all(seed)
    trial = problem.start(seed)
    seed_all(seed)
    return trial


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
    recorder = Recorder(problem, trial, run_length(trial, options))
    trial = withheld(trial)
    trainer = build_trainer(method, problem, trial, options.lr)
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
        metrics=recorder.metrics,
        validation_curve=recorder.validation_curve,
    )


def take_step(trial: Trial, trainer: Trainer, batch: Batch) -> Mapping[str, Tensor]:
    """One step as the problem takes it, with the method's update in it.

    Args:
        trial: Whose step; where it states none, that of any training: losses, then the update.
        trainer: The method.
        batch: What the step is taken with.

    Returns:
        The losses.

    Raises:
        MethodError: If the method raises one of `MAY_FAIL`.
    """

    def update(losses: Mapping[str, Tensor]) -> None:
        try:
            trainer.step(losses)
            trainer.look_back(lambda: trial.compute_losses(*batch))
        except MAY_FAIL as error:
            raise MethodError(" ".join(f"{type(error).__name__}: {error}".split())) from error

    if trial.step is not None:
        return trial.step(update, *batch)
    losses = trial.compute_losses(*batch)
    update(losses)
    return losses


def _take_steps(
    trial: Trial, trainer: Trainer, stream: Iterator[Batch], recorder: Recorder, watch: OnStep
) -> str | None:
    """The whole training; returns how it failed, if it did.

    An error of the method is a result, and the runs after it go on. An error of the problem is
    none, unless the method has ruined the model that the problem was asked about.
    """
    watched = Watched(trainer, trial)
    for step, batch in enumerate(stream, start=1):
        try:
            losses = take_step(trial, watched if recorder.is_due(step) else trainer, batch)
            recorder.record(step, losses, trainer)
            if step == recorder.total and trial.finish is not None:
                trial.finish(_usable(trainer.weights()))
                recorder.record_end()
        except MethodError as error:
            recorder.end(step)
            return f"step {step}: {error}"
        except MAY_FAIL:
            if _is_sound(trial):
                raise
            recorder.end(step)
            return DIVERGED
        watch(step, recorder.metric)
    sound = math.isfinite(recorder.metric) and _is_sound(trial) and not recorder.blew_up
    return None if sound else DIVERGED


def _usable(weights: Mapping[str, float]) -> Mapping[str, float]:
    """Weights of a sum that has a minimum."""
    usable = all(math.isfinite(value) and value >= 0 for value in weights.values())
    return weights if usable else dict.fromkeys(weights, 1.0)


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
        metrics=list(problem.metrics),
    )
