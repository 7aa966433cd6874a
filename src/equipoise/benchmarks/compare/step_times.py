"""The price of a step on the problem itself, and `timing.json`, which keeps it."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.trainers import PlainSum, Trainer, build_trainer
from equipoise.benchmarks.compare.training import batches, start_trial
from equipoise.benchmarks.files import write_atomically
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.timing import Contender, Match, paired_times

FILE_NAME = "timing.json"
_ROUNDS = 7


class _TrialContender(Contender):
    """Takes steps of a trial: losses, gradients, update."""

    def __init__(
        self, trial: Trial, trainer: Trainer, batches_: Iterator[tuple[Tensor, ...]], period: int
    ) -> None:
        super().__init__(trial.data[0].device, period)
        self.trial = trial
        self.trainer = trainer
        self.batches = batches_

    def prepare(self, count: int) -> Callable[[], object]:
        """Cuts the batches beforehand: loading them is no part of a method's price."""
        chosen = list(itertools.islice(self.batches, count))
        return lambda: self._run(chosen)

    def _run(self, chosen: Sequence[tuple[Tensor, ...]]) -> None:
        for batch in chosen:
            self.trainer.step(self.trial.compute_losses(*batch))


def relative_step_times(
    problem: Problem, methods: Sequence[Method], options: TrainingOptions, seed: int
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

    def contender(method: Method | None) -> _TrialContender:
        trial = start_trial(problem, seed)
        trainer: Trainer = (
            PlainSum(trial, options.lr)
            if method is None
            else build_trainer(method, problem, trial, options.lr)
        )
        return _TrialContender(
            trial, trainer, _endless_batches(trial, options, seed), _period(method)
        )

    own = {method.label: contender(method) for method in methods}
    plain = contender(None)
    matches = {label: Match(each, plain) for label, each in own.items()}
    pairs = paired_times(matches, _ROUNDS, lambda _text: None)
    return {
        label: statistics.median(pair.ratio for pair in found) for label, found in pairs.items()
    }


def _period(method: Method | None) -> int:
    every = 1 if method is None else method.options.get("every", 1)
    return every if isinstance(every, int) else 1


def _endless_batches(
    trial: Trial, options: TrainingOptions, seed: int
) -> Iterator[tuple[Tensor, ...]]:
    while True:
        yield from batches(trial, options, seed)


def read_timing(folder: Path, problem: str, options: TrainingOptions) -> dict[str, float]:
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


def write_timing(
    folder: Path, problem: str, options: TrainingOptions, ratios: Mapping[str, float]
) -> None:
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
