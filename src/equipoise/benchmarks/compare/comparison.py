"""The comparison itself: every method on every seed, each finished run kept at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.results import Results, Run
from equipoise.benchmarks.compare.step_times import relative_step_times, write_timing
from equipoise.benchmarks.compare.trainers import build_trainer
from equipoise.benchmarks.compare.training import batches, start_trial, steps_per_epoch, train
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.problem import Problem
from equipoise.benchmarks.refusal import RequestError


@dataclass(frozen=True)
class Comparison:
    """What to run, and where to keep it.

    Args:
        problem: What is trained.
        methods: The rows.
        seeds: Each method is trained once with each.
        options: How all of them are trained.
        folder: Gets `results.jsonl` and `timing.json`.
    """

    problem: Problem
    methods: Sequence[Method]
    seeds: Sequence[int]
    options: TrainingOptions
    folder: Path


@dataclass(frozen=True)
class Planned:
    """A run still to do."""

    method: Method
    seed: int


class Observer(Protocol):
    """Is told how a comparison goes."""

    def planned(self, to_do: Sequence[Planned]) -> None:
        """Before the first run: what is still to do."""

    def timing(self) -> None:
        """Before the steps' prices are measured."""

    def started(self, run: Planned) -> None:
        """Before each run."""

    def stepped(self, step: int, metric: float) -> None:
        """After each step."""

    def finished(self, run: Run) -> None:
        """After each run, when it is on the disk."""


def check(comparison: Comparison) -> int:
    """Takes one step with every method, so that a wrong request is met before anything starts.

    Args:
        comparison: What is going to run.

    Returns:
        How many steps a run has.

    Raises:
        RequestError: If a method cannot be built for this problem, or cannot train it.
    """
    problem, options, seed = comparison.problem, comparison.options, comparison.seeds[0]
    for method in comparison.methods:
        trial = start_trial(problem, seed)
        trainer = build_trainer(method, problem, trial, options.lr)
        losses = trial.compute_losses(*next(batches(trial, options, seed)))
        try:
            trainer.step(losses)
        except (RuntimeError, TypeError, ValueError) as error:
            raise RequestError(f"{method.label} cannot train {problem.name}: {error}") from error
    return options.epochs * steps_per_epoch(start_trial(problem, seed), options)


def compare(comparison: Comparison, observer: Observer) -> None:
    """Runs what has not been run yet, seed by seed, so that a stop leaves comparable rows.

    Args:
        comparison: What to run; `check` tells whether it can.
        observer: Is told how it goes.

    Raises:
        RequestError: If `results.jsonl` cannot be read.
    """
    results = Results(comparison.folder)
    results.repair()
    to_do = _unfinished(comparison, results.read())
    observer.planned(to_do)
    if to_do:
        observer.timing()
        _measure_timing(comparison)
    for planned in to_do:
        observer.started(planned)
        run = train(
            comparison.problem,
            planned.method,
            comparison.options,
            planned.seed,
            watch=observer.stepped,
        )
        results.append(run)
        observer.finished(run)


def _unfinished(comparison: Comparison, runs: Sequence[Run]) -> list[Planned]:
    finished = {run.key for run in runs}
    name, options = comparison.problem.name, comparison.options
    return [
        Planned(method, seed)
        for seed in comparison.seeds
        for method in comparison.methods
        if (name, options, method.label, seed) not in finished
    ]


def _measure_timing(comparison: Comparison) -> None:
    problem, options = comparison.problem, comparison.options
    ratios = relative_step_times(problem, comparison.methods, options, comparison.seeds[0])
    write_timing(comparison.folder, problem.name, options, ratios)
