"""Times steps in shuffled rounds, in alternation with a plain sum, so that nobody is favoured.

Two things keep other load of the machine out of a price. Where one thread of a CPU does all the
work, what is measured is the time that the machine spent on this process, not what it spent on
others meanwhile. And a step is followed by a plain one, step by step: what still slows the machine
down (shared caches, its frequency) slows both alike, and the ratio stays. `equipoise compare` and
`equipoise bench` both measure with it.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from random import Random
from typing import NamedTuple, TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)

_SECONDS_PER_TURN = 0.05
_MOST_PERIODS_PER_TURN = 200


class Contender(ABC):
    """A step, ready to be repeated on a model of its own.

    Args:
        device: Where it runs.
        period: After how many steps its work repeats; a turn is made of whole periods.
    """

    def __init__(self, device: torch.device, period: int = 1) -> None:
        self.device = device
        self.period = period

    @abstractmethod
    def prepare(self, count: int) -> Callable[[], object]:
        """Gets ready what is not timed, such as the batches.

        Args:
            count: How many steps follow.

        Returns:
            What takes these steps when it is called.
        """

    def steps(self, count: int) -> None:
        """Takes steps, untimed.

        Args:
            count: How many.
        """
        self.prepare(count)()

    def seconds_per_step(self, count: int) -> float:
        """Takes steps and times them.

        Args:
            count: How many.

        Returns:
            The mean, by `clock`.
        """
        run, now = self.prepare(count), clock(self.device)
        _synchronize(self.device)
        start = now()
        run()
        _synchronize(self.device)
        return (now() - start) / count


class Match(NamedTuple):
    """A step, and the plain sum that it is compared with."""

    own: Contender
    plain: Contender


class Pair(NamedTuple):
    """Seconds per step: the contender's, and the plain sum's in alternation with it."""

    own: float
    plain: float

    @property
    def ratio(self) -> float:
        """The price of the step in plain sums."""
        return self.own / self.plain


def clock(device: torch.device) -> Callable[[], float]:
    """What tells how long a step takes.

    Args:
        device: Where it runs.

    Returns:
        The time that this process has had of the machine, where one thread does all the work of a
        step: it is the step's time on a machine that does nothing else. The time of day elsewhere.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def _synchronize(device: torch.device) -> None:
    """Waits until an accelerator has done what it was asked to do; a CPU never has work left."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def paired_times(
    matches: Mapping[Name, Match], rounds: int, watch: Callable[[str], object]
) -> dict[Name, list[Pair]]:
    """Gives every contender one turn in each round, in a new order each time.

    Args:
        matches: Who takes turns, by a name that can be shown.
        rounds: How many; one more comes first and is not counted.
        watch: Told about each turn before it begins.

    Returns:
        One pair of times for each contender and round.
    """
    periods: dict[Name, int] = {}
    for name, match in matches.items():
        watch(f"warm-up, {name}")
        periods[name] = _warm_up(match)
    order, shuffle = list(matches), Random(0)
    pairs: dict[Name, list[Pair]] = {name: [] for name in matches}
    for index in range(rounds):
        shuffle.shuffle(order)
        for name in order:
            watch(f"round {index + 1} of {rounds}, {name}")
            pairs[name].append(_turn(matches[name], periods[name]))
    return pairs


def _warm_up(match: Match) -> int:
    """Takes the first steps, which find what is shared, allocate state and fill the caches.

    Returns:
        How many periods make a turn.
    """
    period = match.own.period
    for contender in match:
        contender.steps(period)
    slower = max(contender.seconds_per_step(period) for contender in match)
    wanted = math.ceil(_SECONDS_PER_TURN / max(slower * period, 1e-9))
    return min(max(1, wanted), _MOST_PERIODS_PER_TURN)


def _turn(match: Match, periods: int) -> Pair:
    """Both take the same number of steps, one period of the contender's work after the other."""
    own, plain, steps = 0.0, 0.0, match.own.period
    for _ in range(periods):
        plain += match.plain.seconds_per_step(steps)
        own += match.own.seconds_per_step(steps)
    return Pair(own / periods, plain / periods)
