"""The price of a step on the problem itself, and `timing.json`, which keeps it."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from equipoise.benchmarks.compare.fingerprint import UNKNOWN, Fingerprint
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.run import Experiment
from equipoise.benchmarks.compare.stream import Batch, endless_batches
from equipoise.benchmarks.compare.trainers import PlainSum, Trainer, build_trainer
from equipoise.benchmarks.compare.training import MAY_FAIL, MethodError, start_trial, take_step
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.refusal import RequestError
from equipoise.benchmarks.schema import conform, read_json
from equipoise.benchmarks.timing import Contender, Match, paired_times
from equipoise.pages.files import write_atomically

FILE_NAME = "timing.json"
_ROUNDS = 7


class _TrialContender(Contender):
    """Takes steps of a trial: losses, gradients, update."""

    def __init__(
        self, trial: Trial, trainer: Trainer, batches_: Iterator[Batch], period: int
    ) -> None:
        super().__init__(trial.device, period)
        self.trial = trial
        self.trainer = trainer
        self.batches = batches_
        self.sound = True

    def prepare(self, count: int) -> Callable[[], object]:
        """Cuts the batches beforehand: loading them is no part of a method's price."""
        chosen = list(itertools.islice(self.batches, count))
        return lambda: self._run(chosen)

    def _run(self, chosen: Sequence[Batch]) -> None:
        try:
            for batch in chosen if self.sound else ():
                take_step(self.trial, self.trainer, batch)
        except (MethodError, *MAY_FAIL):
            self.sound = False  # the run itself will meet this, and write it down


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
        A method that fails on the way has none.
    """

    def contender(method: Method | None) -> _TrialContender:
        trial = start_trial(problem, seed)
        trainer: Trainer = (
            PlainSum(trial, options.lr)
            if method is None
            else build_trainer(method, problem, trial, options.lr)
        )
        return _TrialContender(
            trial, trainer, endless_batches(trial, options, seed), _period(method)
        )

    own = {method.label: contender(method) for method in methods}
    plain = contender(None)
    matches = {label: Match(each, plain) for label, each in own.items()}
    pairs = paired_times(matches, _ROUNDS, lambda _text: None)
    return {
        label: statistics.median(pair.ratio for pair in found)
        for label, found in pairs.items()
        if own[label].sound
    }


def _period(method: Method | None) -> int:
    every = 1 if method is None else method.options.get("every", 1)
    return every if isinstance(every, int) else 1


@dataclass(frozen=True)
class _Kept:
    """What `timing.json` holds."""

    problem: str
    options: TrainingOptions
    ratios: dict[str, float]
    fingerprint: Fingerprint = UNKNOWN

    @property
    def experiment(self) -> Experiment:
        return Experiment(self.problem, self.options, self.fingerprint)


def read_timing(folder: Path, experiment: Experiment) -> dict[str, float]:
    """The ratios kept in a folder for an experiment, by method label.

    Args:
        folder: Where `write_timing` wrote them.
        experiment: What was trained, and how.

    Returns:
        The ratios; empty where none were measured for it.

    Raises:
        RequestError: If the file is there and holds something else.
    """
    path = folder / FILE_NAME
    try:
        kept = conform(_Kept, read_json(path.read_bytes())) if path.exists() else None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise RequestError(f"{path} cannot be read ({error}); correct or delete it.") from error
    return kept.ratios if kept and kept.experiment == experiment else {}


def write_timing(folder: Path, experiment: Experiment, ratios: Mapping[str, float]) -> None:
    """Keeps ratios beside the results; those of methods not measured this time stay.

    Args:
        folder: The comparison's folder.
        experiment: What was trained, and how.
        ratios: As `relative_step_times` gives them.
    """
    together = {**read_timing(folder, experiment), **ratios}
    kept = _Kept(experiment.problem, experiment.options, together, experiment.fingerprint)
    write_atomically(folder / FILE_NAME, json.dumps(asdict(kept), indent=2))
