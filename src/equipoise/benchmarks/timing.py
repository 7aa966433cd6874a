"""Times steps in shuffled rounds, each beside a plain sum, so that nobody is favoured.

A busy moment of the machine slows a step and the plain sum just before it alike; the ratio stays.
`equipoise compare` and `equipoise bench` both measure with it.
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
_MOST_PERIODS_PER_TURN = 50


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
            The mean.
        """
        run = self.prepare(count)
        _synchronize(self.device)
        start = time.perf_counter()
        run()
        _synchronize(self.device)
        return (time.perf_counter() - start) / count


class Match(NamedTuple):
    """A step, and the plain sum that it is compared with."""

    own: Contender
    plain: Contender


class Pair(NamedTuple):
    """Seconds per step: the contender's, and the plain sum's just before it."""

    own: float
    plain: float

    @property
    def ratio(self) -> float:
        """The price of the step in plain sums."""
        return self.own / self.plain


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
    counts: dict[Name, int] = {}
    for name, match in matches.items():
        watch(f"warm-up, {name}")
        counts[name] = _warm_up(match)
    order, shuffle = list(matches), Random(0)
    pairs: dict[Name, list[Pair]] = {name: [] for name in matches}
    for index in range(rounds):
        shuffle.shuffle(order)
        for name in order:
            watch(f"round {index + 1} of {rounds}, {name}")
            own, plain = matches[name]
            beside = plain.seconds_per_step(counts[name])
            pairs[name].append(Pair(own.seconds_per_step(counts[name]), beside))
    return pairs


def _warm_up(match: Match) -> int:
    """Takes the first steps, which find what is shared, allocate state and fill the caches.

    Returns:
        How many steps make a turn, in whole periods.
    """
    match.plain.steps(1)
    period = match.own.period
    seconds = match.own.seconds_per_step(period)
    wanted = math.ceil(_SECONDS_PER_TURN / max(seconds * period, 1e-9))
    return period * min(max(1, wanted), _MOST_PERIODS_PER_TURN)
