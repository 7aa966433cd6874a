"""The price of a step, relative to the plain sum, measured so that nobody is favoured.

All methods take turns within one process, so a slower moment of the machine meets all of them.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from equipoise.benchmarks.files import write_atomically
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.request import Options
from equipoise.benchmarks.trainers import PlainSum, Trainer, build_trainer
from equipoise.benchmarks.training import batches, start_trial

FILE_NAME = "timing.json"
_ROUNDS = 7
_SECONDS_PER_TURN = 0.1
_MOST_STEPS_PER_TURN = 20


@dataclass
class _Contestant:
    trial: Trial
    trainer: Trainer
    stream: Iterator[tuple[Tensor, ...]]

    def seconds_per_step(self, steps: int) -> float:
        turn = list(itertools.islice(self.stream, steps))
        started = time.perf_counter()
        for batch in turn:
            self.trainer.step(self.trial.compute_losses(*batch))
        return (time.perf_counter() - started) / len(turn)


def relative_step_times(
    problem: Problem, methods: Sequence[Method], options: Options, seed: int
) -> dict[str, float]:
    """The time of a whole step (forward, backward, update) over that of the plain sum.

    Args:
        problem: What is trained.
        methods: Whose steps are timed.
        options: Batch size and learning rate.
        seed: Decides data and initial parameters.

    Returns:
        The median ratio for each method's label; 1.0 is the price of ``sum(losses).backward()``.
    """
    contestants = {method.label: _contestant(problem, method, options, seed) for method in methods}
    plain = _contestant(problem, None, options, seed)
    # The first steps find the sharing, allocate state and warm the caches: they are not counted.
    for contestant in (plain, *contestants.values()):
        contestant.seconds_per_step(2)
    steps = _steps_per_turn(plain)
    ratios: dict[str, list[float]] = {label: [] for label in contestants}
    for _ in range(_ROUNDS):
        baseline = plain.seconds_per_step(steps)
        for label, contestant in contestants.items():
            ratios[label].append(contestant.seconds_per_step(steps) / baseline)
    return {label: statistics.median(values) for label, values in ratios.items()}


def _contestant(
    problem: Problem, method: Method | None, options: Options, seed: int
) -> _Contestant:
    trial = start_trial(problem, seed)
    if method is None:
        trainer: Trainer = PlainSum(trial, options.lr)
    else:
        trainer = build_trainer(method, problem, trial, options.lr)
    return _Contestant(trial, trainer, _endless_batches(trial, options, seed))


def _endless_batches(trial: Trial, options: Options, seed: int) -> Iterator[tuple[Tensor, ...]]:
    while True:
        yield from batches(trial, options, seed)


def _steps_per_turn(plain: _Contestant) -> int:
    affordable = int(_SECONDS_PER_TURN / plain.seconds_per_step(2))
    return min(max(affordable, 1), _MOST_STEPS_PER_TURN)


def read_timing(folder: Path, problem: str, options: Options) -> dict[str, float]:
    """The ratios kept in a folder for a problem and its options, by method label.

    Args:
        folder: Where `write_timing` wrote them.
        problem: The problem's name.
        options: What it was trained with.

    Returns:
        The ratios; empty where none were measured under these options.
    """
    path = folder / FILE_NAME
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("problem") != problem or kept.get("options") != asdict(options):
        return {}
    ratios: dict[str, float] = kept["ratios"]
    return ratios


def write_timing(folder: Path, problem: str, options: Options, ratios: Mapping[str, float]) -> None:
    """Keeps ratios beside the results; those of methods not measured this time stay.

    Args:
        folder: The comparison's folder.
        problem: The problem's name.
        options: What it was trained with.
        ratios: As `relative_step_times` gives them.
    """
    together = {**read_timing(folder, problem, options), **ratios}
    content = {"problem": problem, "options": asdict(options), "ratios": together}
    write_atomically(folder / FILE_NAME, json.dumps(content, indent=2))
