"""The price of a step on the problem itself, and `timing.json`, which keeps it."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.stream import Batch, endless_batches
from equipoise.benchmarks.compare.trainers import PlainSum, Trainer, build_trainer
from equipoise.benchmarks.compare.training import MAY_FAIL, MethodError, start_trial, take_step
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.timing import Contender, Match, paired_times

_ROUNDS = 7


@dataclass(frozen=True)
class Prices:
    """What steps cost on the machine where a comparison runs.

    Args:
        ratios: The time of a whole step (forward, backward, update) over that of the plain sum, by
            method label; 1.0 is the price of ``sum(losses).backward()``.
        plain_step: Seconds for a step with the plain sum, on a machine that does nothing else;
            ``None`` where it was not measured.
    """

    ratios: Mapping[str, float]
    plain_step: float | None = None


UNPRICED = Prices({})


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


def measure_prices(
    problem: Problem, methods: Sequence[Method], options: TrainingOptions, seed: int
) -> Prices:
    """Times the steps of methods in turns, each in alternation with the plain sum.

    It is to be called with as many threads as the runs have (`torch.set_num_threads`).

    Args:
        problem: What is trained.
        methods: Whose steps are timed.
        options: Batch size and learning rate.
        seed: Decides data and initial parameters.

    Returns:
        Medians. A method that fails on the way has no price.
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
    ratios = {
        label: statistics.median(pair.ratio for pair in found)
        for label, found in pairs.items()
        if own[label].sound
    }
    plain_steps = [pair.plain for found in pairs.values() for pair in found]
    return Prices(ratios, statistics.median(plain_steps) if plain_steps else None)


def _period(method: Method | None) -> int:
    every = 1 if method is None else method.options.get("every", 1)
    return every if isinstance(every, int) else 1
