"""Times steps in shuffled rounds, each beside a plain sum, so that nobody is favoured.

A busy moment of the machine slows a step and the plain sum just before it alike; the ratio stays.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

import torch

from equipoise.benchmarks.price.cases import Build, Case
from equipoise.benchmarks.price.models import SharedTrunk

_SECONDS_PER_TURN = 0.05


class Pair(NamedTuple):
    """Seconds a step: the contender's, and the plain sum's just before it."""

    own: float
    plain: float


class Contender:
    """A step, ready to be repeated on a model of its own.

    Args:
        model: What it runs on.
        build: Prepares what follows the forward pass.
    """

    def __init__(self, model: SharedTrunk, build: Build) -> None:
        self.model = model
        self.backward = build(model)

    def steps(self, count: int) -> None:
        """Takes steps: forward, backward, and whatever the case does besides.

        Args:
            count: How many.
        """
        for _ in range(count):
            self.model.zero_grad()
            self.backward(self.model())

    def seconds_per_step(self, count: int) -> float:
        """Takes steps and times them.

        Args:
            count: How many.

        Returns:
            The mean.
        """
        synchronize(self.model.inputs.device)
        start = time.perf_counter()
        self.steps(count)
        synchronize(self.model.inputs.device)
        return (time.perf_counter() - start) / count


def synchronize(device: torch.device) -> None:
    """Waits until an accelerator has done what it was asked to do.

    Args:
        device: Which; a CPU never has work left.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def paired_times(
    contenders: Mapping[Case, Contender],
    plain: Mapping[bool, Contender],
    rounds: int,
    watch: Callable[[str], None],
) -> dict[Case, list[Pair]]:
    """Gives every contender one turn in each round, in a new order each time.

    Args:
        contenders: Who takes turns.
        plain: What each is compared with, by whether its steps update the parameters.
        rounds: How many; one more comes first and is not counted.
        watch: Told about each turn before it begins.

    Returns:
        One pair of times for each case and round.
    """
    order, shuffle = list(contenders), Random(0)
    counts: dict[Case, int] = {}
    for case, contender in contenders.items():
        watch(f"warm-up, {case.label}")
        plain[case.updates].steps(1)
        counts[case] = _steps_per_turn(contender.seconds_per_step(case.every), case.every)
    pairs: dict[Case, list[Pair]] = {case: [] for case in contenders}
    for index in range(rounds):
        shuffle.shuffle(order)
        for case in order:
            watch(f"round {index + 1} of {rounds}, {case.label}")
            beside = plain[case.updates].seconds_per_step(counts[case])
            pairs[case].append(Pair(contenders[case].seconds_per_step(counts[case]), beside))
    return pairs


def _steps_per_turn(seconds: float, every: int) -> int:
    """Whole periods of a step that repeats its work after so many."""
    return every * max(1, math.ceil(_SECONDS_PER_TURN / (seconds * every)))
