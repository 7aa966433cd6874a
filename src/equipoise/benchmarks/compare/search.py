"""What a comparison tries before it reports: the same budget of trials for every method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.benchmarks.refusal import RequestError


@dataclass(frozen=True)
class Search:
    """What is chosen on validation data, and what is trained on top of the methods asked for.

    Args:
        rates: Learning rates that every method is tried with; none means the one of the options.
        static: How many static weightings are tried; 0 for no such row.
        retrain: Whether the weights of finished methods are trained with again, held fixed.
        tuning_seeds: With how many of the seeds is chosen; ``None`` for all.

    Raises:
        RequestError: If a number is out of range.
    """

    rates: tuple[float, ...] = ()
    static: int = 0
    retrain: bool = False
    tuning_seeds: int | None = None

    def __post_init__(self) -> None:
        if self.static < 0:
            raise RequestError(f"--static is a number of trials, for example 20; got {self.static}")
        if self.tuning_seeds is not None and self.tuning_seeds < 1:
            raise RequestError(f"--tuning-seeds is at least 1; got {self.tuning_seeds}.")
        if not all(math.isfinite(rate) and rate > 0 for rate in self.rates):
            shown = ",".join(f"{rate:g}" for rate in self.rates)
            raise RequestError(f"--lr is positive, for example 3e-4,1e-3,3e-3; got {shown}.")

    def seeds_for_choosing(self, seeds: Sequence[int]) -> tuple[int, ...]:
        """The seeds with which is chosen among variants: the first of all seeds."""
        return tuple(seeds[: self.tuning_seeds])


NO_SEARCH = Search()
"""One learning rate, and nothing else but the methods asked for."""


def parse_rates(text: str) -> tuple[float, ...]:
    """Reads `--lr`.

    Args:
        text: One learning rate, or several separated by commas.

    Returns:
        The rates, in order, each once.

    Raises:
        RequestError: If one of them is no number.

    Example:
        >>> parse_rates("3e-4,1e-3")
        (0.0003, 0.001)
    """
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",") if part.strip()))
    except ValueError:
        raise RequestError(f"--lr is a number, or several: 3e-4,1e-3; got {text!r}.") from None
