"""The comparison itself: every method on every seed, each finished run kept at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from equipoise.benchmarks.compare.fingerprint import take_fingerprint
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.results import Results
from equipoise.benchmarks.compare.run import Experiment, Run
from equipoise.benchmarks.compare.step_times import read_timing, relative_step_times, write_timing
from equipoise.benchmarks.compare.stream import batches, run_length
from equipoise.benchmarks.compare.trainers import build_trainer
from equipoise.benchmarks.compare.training import MethodError, start_trial, take_step, train
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

    @cached_property
    def experiment(self) -> Experiment:
        """What its runs have in common; taken once, as it starts a trial."""
        fingerprint = take_fingerprint(self.problem, self.options.batch_size)
        return Experiment(self.problem.name, self.options, fingerprint)


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
        try:
            take_step(trial, trainer, next(batches(trial, options, seed)))
        except MethodError as error:
            raise RequestError(f"{method.label} cannot train {problem.name}: {error}") from error
    return run_length(start_trial(problem, seed), options)


def compare(comparison: Comparison, observer: Observer) -> None:
    """Runs what has not been run yet, seed by seed, so that a stop leaves comparable rows.

    Args:
        comparison: What to run; `check` tells whether it can.
        observer: Is told how it goes.

    Raises:
        RequestError: If the folder's files cannot be read; nothing in them is changed then.
    """
    results = Results(comparison.folder)
    to_do = _unfinished(comparison, results.read())
    read_timing(comparison.folder, comparison.experiment)
    results.repair()
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
            fingerprint=comparison.experiment.fingerprint,
        )
        results.append(run)
        observer.finished(run)


def outdated(comparison: Comparison) -> str:
    """Says which finished runs do not count, because the problem is no longer the same.

    Args:
        comparison: What is going to run.

    Returns:
        One sentence; empty where there is no such run. The runs stay in the file: they count again
        once the problem is what it was.

    Raises:
        RequestError: If `results.jsonl` cannot be read.
    """
    now = comparison.experiment
    wanted = {(method.label, seed) for method in comparison.methods for seed in comparison.seeds}
    old = [
        run.fingerprint
        for run in Results(comparison.folder).read()
        if replace(run.experiment, fingerprint=now.fingerprint) == now
        and run.fingerprint != now.fingerprint
        and (run.balancer, run.seed) in wanted
    ]
    if not old:
        return ""
    changed = dict.fromkeys(word for found in old for word in now.fingerprint.differences(found))
    return (
        f"{len(old)} finished runs are of an earlier {comparison.problem.name} "
        f"({', '.join(changed)} differ); they are kept, and do not count here."
    )


def _unfinished(comparison: Comparison, runs: Sequence[Run]) -> list[Planned]:
    finished = {run.key for run in runs}
    return [
        Planned(method, seed)
        for seed in comparison.seeds
        for method in comparison.methods
        if (comparison.experiment, method.label, seed) not in finished
    ]


def _measure_timing(comparison: Comparison) -> None:
    ratios = relative_step_times(
        comparison.problem, comparison.methods, comparison.options, comparison.seeds[0]
    )
    write_timing(comparison.folder, comparison.experiment, ratios)
