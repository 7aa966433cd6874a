"""Two methods held against each other seed by seed, and what may be said of it in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
from scipy import stats

from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.compare.statistics import CONFIDENCE, Interval, Standing, mean_interval

Verdict: TypeAlias = Literal["better", "worse", "alike"]
"""What may be said of a method beside another one; alike is what cannot be told apart."""


@dataclass(frozen=True)
class Difference:
    """A method's metric less that of another one, over the seeds on which neither failed.

    Pairing takes out what a seed does to both alike, its data and its initial parameters; the
    interval of the difference is often far narrower than the two intervals beside each other.

    Args:
        interval: Of the differences, in the metric's own units and direction.
        p_value: Of the paired t-test that the mean difference is zero; ``None`` with fewer than two
            pairs.
    """

    interval: Interval
    p_value: float | None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        width = self.interval.half_width
        return width is not None and abs(self.interval.mean) > width

    def __str__(self) -> str:
        """The difference for a table, with its sign."""
        if not self.interval.count:
            return ""
        return f"+{self.interval}" if self.interval.mean > 0 else str(self.interval)


def difference(row: Standing, other: Standing) -> Difference:
    """Pairs two methods over their common seeds.

    Args:
        row: A method.
        other: What it is held against.

    Returns:
        ``row - other``.
    """
    theirs = _metrics(other.runs)
    gaps = [metric - theirs[seed] for seed, metric in _metrics(row.runs).items() if seed in theirs]
    return Difference(mean_interval(gaps), _p_value(gaps))


def _metrics(runs: Sequence[Run]) -> dict[int, float]:
    return {run.seed: run.metric for run in runs if not run.failed and run.metric is not None}


def _p_value(gaps: Sequence[float]) -> float | None:
    if len(gaps) < 2:
        return None
    scaled = np.array(gaps) / (max(map(abs, gaps)) or 1.0)  # squares of huge gaps overflow
    if np.ptp(scaled) == 0:  # without any spread the t-test divides by zero
        return 0.0 if scaled[0] else 1.0
    return float(stats.ttest_1samp(scaled, 0.0).pvalue)


def ranks(rows: Sequence[Standing]) -> list[str]:
    """The ranks that each row may have, as far as its paired differences tell.

    A row stands behind those that are clearly before it, and before those that are clearly behind;
    between them the intervals of the differences hold zero, and its place is open.

    Args:
        rows: Best first.

    Returns:
        One rank for each row, ``"2"`` or ``"1-3"``. With a single seed nothing can be told apart,
        and the places count.
    """
    if all(len(row.runs) < 2 for row in rows):
        return [str(place) for place in range(1, len(rows) + 1)]
    return [_rank(row, rows) for row in rows]


def _rank(row: Standing, rows: Sequence[Standing]) -> str:
    first = 1 + sum(_is_clearly_before(other, row) for other in rows)
    last = len(rows) - sum(_is_clearly_before(row, other) for other in rows)
    return str(first) if first == last else f"{first}-{last}"


def _is_clearly_before(first: Standing, second: Standing) -> bool:
    if first.failed != second.failed:
        return first.failed < second.failed
    found = difference(first, second)
    return found.clear and _is_better(found, first)


def _is_better(found: Difference, row: Standing) -> bool:
    return (found.interval.mean > 0) == row.runs[0].problem.higher_is_better


def verdicts(rows: Sequence[Standing], plain: Standing) -> Mapping[str, Verdict]:
    """What may be said of each method beside the plain sum, all of them together.

    A method counts as better or worse where the paired t-test says so after Holm's correction for
    the number of methods: among many, some look better by chance. One that fails on more seeds is
    worse, whatever it reached on the others.

    Args:
        rows: All rows that a sentence speaks of; the plain sum may be one of them.
        plain: The row of the plain sum.

    Returns:
        By label, for all but the plain sum.

    References:
        Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    others = {row.balancer: row for row in rows if row.balancer != plain.balancer}
    found = {label: difference(row, plain) for label, row in others.items()}
    tested = {label: each.p_value for label, each in found.items() if each.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return MappingProxyType(
        {
            label: relation(row, plain, found[label], adjusted.get(label, 1.0))
            for label, row in others.items()
        }
    )


def relation(row: Standing, other: Standing, found: Difference, p_value: float) -> Verdict:
    """What may be said of a method beside another one.

    Args:
        row: The method.
        other: What it is held against.
        found: Their difference.
        p_value: Of the difference, corrected where several are read together.
    """
    if row.failed != other.failed:
        return "better" if row.failed < other.failed else "worse"
    if p_value >= 1 - CONFIDENCE:
        return "alike"
    return "better" if _is_better(found, row) else "worse"


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for being one of many, by Holm's step-down procedure.

    Args:
        p_values: Of all tests that are read together.

    Returns:
        The corrected ones, in the same order.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    corrected, largest = [math.nan] * len(p_values), 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected
