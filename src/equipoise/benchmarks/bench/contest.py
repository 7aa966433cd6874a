"""Runs the benchmark: one contest for each model and number of losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from equipoise.benchmarks.bench.cases import (
    REFERENCES,
    Build,
    Case,
    method_cases,
    plain_sum_and_adam,
    sum_losses,
)
from equipoise.benchmarks.bench.contender import ModelContender
from equipoise.benchmarks.bench.memory import peak_memory
from equipoise.benchmarks.bench.models import build_model
from equipoise.benchmarks.bench.pass_counter import PassCounter
from equipoise.benchmarks.bench.peers import peer_cases
from equipoise.benchmarks.bench.prices import Bench, Footprint, Price, fastest_variants, price
from equipoise.benchmarks.bench.request import PriceRequest
from equipoise.benchmarks.timing import Match, paired_times

# What the steps of one group may hold between their turns; a group of one may need more.
_GROUP_BYTES = 3 << 30
_STEPS_BEFORE_COUNTING = 2

Narrate: TypeAlias = Callable[[str], None]
"""Told what is being measured."""


@dataclass(frozen=True)
class Contest:
    """A model with so many losses, on which everybody takes turns.

    Args:
        model: A key of `MODELS`.
        losses: How many, ``T``.
        device: Where it runs.
    """

    model: str
    losses: int
    device: torch.device

    def contender(self, build: Build, period: int = 1) -> ModelContender:
        """A step on a model of its own; all of them are equal."""
        return ModelContender(build_model(self.model, self.losses, self.device), build, period)

    def footprint(self, case: Case) -> Footprint:
        """Peak memory and backward passes of a case, measured on its own."""
        model = build_model(self.model, self.losses, self.device)
        started: list[ModelContender] = []

        def first_steps() -> None:
            # From before the step is built, so that what it keeps for later steps counts too.
            started.append(ModelContender(model, case.build))
            started[0].steps(_STEPS_BEFORE_COUNTING)

        peak = peak_memory(first_steps, self.device)
        through, entering = _passes(started[0], case.every)
        # A loss that holds derivatives passes the trunk several times, in a plain step too.
        plain = _passes(self.contender(sum_losses), 1)
        return Footprint(
            memory=peak / model.parameter_bytes,
            bytes_held=peak + model.parameter_bytes,
            through=through / plain[0],
            entering=entering / plain[1],
        )

    def __str__(self) -> str:
        """The contest in words."""
        return f"{self.model}, T = {self.losses}"


def _passes(contender: ModelContender, steps: int) -> tuple[float, float]:
    """Passes through the whole trunk, and into it, per step."""
    with PassCounter(contender.model.trunk) as counter:
        contender.steps(steps)
    return counter.through / steps, counter.entering / steps


def run_bench(request: PriceRequest, watch: Narrate) -> Iterator[Bench]:
    """Measures what was asked for.

    Args:
        request: What to measure.
        watch: Told about each piece of work before it begins.

    Yields:
        The results so far, after each model and number of losses.
    """
    peers, missing = _peers(request)
    cases = [*REFERENCES, *method_cases(request.methods, request.knobs), *peers]
    bench = Bench(request.settings(), [], missing)
    device = torch.device(request.device)
    for model in request.models:
        for losses in request.losses:
            contest = Contest(model, losses, device)
            footprints, skipped = _footprints(contest, cases, watch)
            prices = _prices(contest, footprints, request.rounds, watch)
            bench = bench.extended(fastest_variants(prices), skipped)
            yield bench


def _peers(request: PriceRequest) -> tuple[list[Case], list[str]]:
    return peer_cases(method.name for method in request.methods) if request.peers else ([], [])


def _footprints(
    contest: Contest, cases: Sequence[Case], watch: Narrate
) -> tuple[dict[Case, Footprint], list[str]]:
    found: dict[Case, Footprint] = {}
    skipped: list[str] = []
    for case in cases:
        watch(f"{contest}: memory and passes of {case.label}")
        try:
            found[case] = contest.footprint(case)
        except (ImportError, TypeError, ValueError, RuntimeError) as error:
            # One method that cannot run on this model must not cost the results of all others.
            reason = " ".join(str(error).split())
            skipped.append(f"{contest}: {case.label} is left out. {reason}")
    return found, list(dict.fromkeys(skipped))


def _prices(
    contest: Contest, footprints: Mapping[Case, Footprint], rounds: int, watch: Narrate
) -> list[Price]:
    plain = {
        False: contest.contender(sum_losses),
        True: contest.contender(plain_sum_and_adam),
    }
    prices: list[Price] = []
    for group in _groups(footprints):
        matches = {
            case: Match(contest.contender(case.build, case.every), plain[case.updates])
            for case in group
        }
        pairs = paired_times(matches, rounds, lambda text: watch(f"{contest}: {text}"))
        prices += [
            price(contest.model, contest.losses, case, footprints[case], pairs[case])
            for case in group
        ]
    return prices


def _groups(footprints: Mapping[Case, Footprint]) -> Iterator[list[Case]]:
    """Cases that take turns: all of them, as far as memory allows."""
    group: list[Case] = []
    held = 0
    for case, footprint in footprints.items():
        if group and held + footprint.bytes_held > _GROUP_BYTES:
            yield group
            group, held = [], 0
        group.append(case)
        held += footprint.bytes_held
    if group:
        yield group
