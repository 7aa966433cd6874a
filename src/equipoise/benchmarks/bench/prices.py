"""`bench.json`: what was measured, kept in a form that tables, pages and other programs read."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from equipoise.benchmarks.refusal import RequestError
from equipoise.pages.files import write_atomically

if TYPE_CHECKING:
    from equipoise.benchmarks.bench.cases import Case
    from equipoise.benchmarks.timing import Pair

FILE_NAME = "bench.json"

Setting: TypeAlias = "str | int"


@dataclass(frozen=True)
class Footprint:
    """What a step needs besides time.

    Args:
        memory: The peak above the parameters, in multiples of their size.
        bytes_held: The peak with the parameters.
        through: Backward passes through the whole trunk, per step.
        entering: Backward passes that reach its top, per step.
    """

    memory: float
    bytes_held: int
    through: float
    entering: float


@dataclass(frozen=True)
class Price:
    """What one step costs with one method on one model.

    Args:
        model: A key of `MODELS`.
        losses: How many, ``T``.
        label: What the row is called.
        kind: ``"method"``, ``"peer"`` or ``"reference"``.
        method: The registry's name of the method, or empty.
        every: After how many steps its work repeats.
        variant: Which of several ways was the fastest, or empty.
        updates: Whether the step, and what it is compared with, updates the parameters.
        ratio: Its time over the plain sum's, median of the rounds.
        low: The first quartile of that ratio.
        high: The third quartile.
        milliseconds: The median time.
        memory: The peak above the parameters, in multiples of their size.
        through: Backward passes through the whole trunk, per step.
        entering: Backward passes that reach its top, per step.
    """

    model: str
    losses: int
    label: str
    kind: str
    method: str
    every: int
    variant: str
    updates: bool
    ratio: float
    low: float
    high: float
    milliseconds: float
    memory: float
    through: float
    entering: float


@dataclass(frozen=True)
class Bench:
    """A whole benchmark.

    Args:
        settings: How and with what it was measured.
        prices: What was found.
        skipped: One line for each thing that was not measured, and why.
    """

    settings: Mapping[str, Setting]
    prices: Sequence[Price]
    skipped: Sequence[str]

    def extended(self, prices: Sequence[Price], skipped: Sequence[str]) -> Bench:
        """This benchmark and more of it.

        Args:
            prices: Added at the end.
            skipped: Added at the end.

        Returns:
            A new benchmark.
        """
        return Bench(self.settings, [*self.prices, *prices], [*self.skipped, *skipped])


def price(
    model: str, losses: int, case: Case, footprint: Footprint, pairs: Sequence[Pair]
) -> Price:
    """Condenses the measurements of a case.

    Args:
        model: A key of `MODELS`.
        losses: How many, ``T``.
        case: What was measured.
        footprint: Its memory and passes.
        pairs: Its times, at least two.

    Returns:
        Medians and quartiles.
    """
    ratios = [pair.ratio for pair in pairs]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Price(
        model=model,
        losses=losses,
        label=case.label,
        kind=case.kind,
        method=case.method,
        every=case.every,
        variant=case.variant,
        updates=case.updates,
        ratio=median,
        low=low,
        high=high,
        milliseconds=1e3 * statistics.median(pair.own for pair in pairs),
        memory=footprint.memory,
        through=footprint.through,
        entering=footprint.entering,
    )


def fastest_variants(prices: Sequence[Price]) -> list[Price]:
    """Keeps the fastest of several ways to run a row.

    Args:
        prices: Of one model and number of losses.

    Returns:
        One for each label, in the order given.
    """
    fastest: dict[str, Price] = {}
    for found in prices:
        best = fastest.setdefault(found.label, found)
        if found.ratio < best.ratio:
            fastest[found.label] = found
    return list(fastest.values())


def write_bench(folder: Path, bench: Bench) -> Path:
    """Writes `bench.json`.

    Args:
        folder: Where.
        bench: What.

    Returns:
        The file.
    """
    path = folder / FILE_NAME
    write_atomically(path, json.dumps(asdict(bench), indent=1) + "\n")
    return path


def read_bench(path: Path) -> Bench:
    """Reads `bench.json`.

    Args:
        path: The file.

    Returns:
        What was written.

    Raises:
        RequestError: If there is no such file, or it is none of ours.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        prices = [Price(**found) for found in kept["prices"]]
        return Bench(kept["settings"], prices, kept["skipped"])
    except FileNotFoundError:
        raise RequestError(f"{path} does not exist; run equipoise bench first.") from None
    except (ValueError, KeyError, TypeError):
        raise RequestError(f"{path} is no benchmark of this version; run it again.") from None
