"""What several seeds say together: means, 95 % intervals and the order of the methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import stats

from equipoise.benchmarks.compare.run import DIVERGED, Number, Run

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and the half width of its 95 % t-interval.

    Args:
        mean: The mean; not a number where there was nothing to average.
        half_width: ``None`` with fewer than two values: one seed says nothing about the spread.
        count: How many values there were.
    """

    mean: float
    half_width: float | None
    count: int

    def __str__(self) -> str:
        """The interval for a table, to three decimals; large numbers in powers of ten."""
        if not self.count:
            return "not finite"
        spread = "" if self.half_width is None else f" ± {_short(self.half_width)}"
        return f"{_short(self.mean)}{spread}"


def _short(number: float) -> str:
    return f"{number:.3f}" if abs(number) < 1e6 else f"{number:.3g}"


def mean_interval(values: Sequence[Number]) -> Interval:
    r"""The mean and its 95 % interval, :math:`\bar x \pm t_{0.975, n-1} s / \sqrt n`.

    Args:
        values: One a seed; ``None``, absent or not finite, is left out.

    Returns:
        The interval.

    Example:
        >>> str(mean_interval([0.90, 0.92, 0.94]))
        '0.920 ± 0.050'
        >>> str(mean_interval([0.90]))
        '0.900'
    """
    numbers = [value for value in values if value is not None]
    if not numbers:
        return Interval(math.nan, None, 0)
    # In units of the largest: a run on its way to infinity has squares that overflow.
    unit = max(map(abs, numbers)) or 1.0
    scaled = np.array(numbers) / unit
    mean = float(np.mean(scaled)) * unit
    if len(numbers) == 1:
        return Interval(mean, None, 1)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, df=len(numbers) - 1))
    half_width = quantile * float(np.std(scaled, ddof=1)) * unit / math.sqrt(len(numbers))
    return Interval(mean, half_width, len(numbers))


@dataclass(frozen=True)
class Curve:
    """A mean over seeds at each of ``K`` steps.

    Args:
        steps: ``[K]``.
        means: ``[K]`` means; not a number where no seed had a value.
        half_widths: ``[K]`` half widths of the 95 % intervals, 0 where there is none.
    """

    steps: list[int]
    means: npt.NDArray[np.float64]
    half_widths: npt.NDArray[np.float64]


def mean_curve(steps: Sequence[int], values: Sequence[Sequence[Number]]) -> Curve:
    """Averages the curves of several seeds step by step.

    Args:
        steps: ``[K]``, the same for all seeds.
        values: ``[seeds, K]``.

    Returns:
        The mean curve.
    """
    points = [mean_interval(column) for column in zip(*values, strict=True)]
    return Curve(
        steps=list(steps),
        means=np.array([point.mean for point in points]),
        half_widths=np.array([point.half_width or 0.0 for point in points]),
    )


@dataclass(frozen=True)
class Standing:
    """One row of the ranking: a method over all its seeds.

    Args:
        balancer: The method's label.
        title: What the row is called.
        metric: Mean and interval of the final metric over the runs that did not fail.
        relative_time: Time of a step over that of the plain sum, where it was measured.
        final_weights: For each loss, the mean over the seeds of the last recorded weight.
        runs: The runs themselves.
        choice: Which variant they are of, and of how many, where it was chosen among several.
        compute: Time of all runs that the row took, those it was chosen among too, over that of one
            plain sum for each seed.
        tried: The runs of each variant, in the order of the plan.
    """

    balancer: str
    title: str
    metric: Interval
    relative_time: float | None
    final_weights: dict[str, float]
    runs: list[Run]
    choice: str = ""
    compute: float | None = None
    tried: list[list[Run]] = field(default_factory=list)

    @property
    def failed(self) -> float:
        """The share of runs that failed."""
        return sum(run.failed for run in self.runs) / len(self.runs)

    @property
    def failures(self) -> str:
        """How many runs failed, and how; empty where none did."""
        diverged = sum(run.failed and run.failure in (None, DIVERGED) for run in self.runs)
        stopped = sum(run.failed for run in self.runs) - diverged
        counts = {"diverged": diverged, "stopped by an error": stopped}
        return ", ".join(f"{n} of {len(self.runs)} {how}" for how, n in counts.items() if n)

    @property
    def result(self) -> str:
        """The metric for a table; what failed stands before it."""
        if not self.failures:
            return str(self.metric)
        return f"{self.failures}; else {self.metric}" if self.metric.count else self.failures

    @property
    def legend(self) -> str:
        """What the row is called in pictures, which draw the runs that did not fail."""
        return f"{self.title} ({self.failures})" if self.failures else self.title


def standings(runs: Sequence[Run], relative_times: Mapping[str, float]) -> list[Standing]:
    """The methods, best first.

    A method of which runs failed stands behind all that have a result for each seed, the more runs
    failed the further: a mean over the seeds that survived is no result of the method.

    Args:
        runs: Of one experiment.
        relative_times: By method label.

    Returns:
        One `Standing` for each method.
    """
    by_method: dict[str, list[Run]] = {}
    for run in runs:
        by_method.setdefault(run.balancer, []).append(run)
    rows = [standing(label, group, relative_times.get(label)) for label, group in by_method.items()]
    return best_first(rows)


def best_first(rows: Sequence[Standing]) -> list[Standing]:
    """Rows in the order of the ranking; see `standings`."""
    sign = -1 if rows and rows[0].runs[0].problem.higher_is_better else 1
    return sorted(rows, key=lambda row: (row.failed, sign * row.metric.mean))


def standing(label: str, runs: list[Run], relative_time: float | None) -> Standing:
    """The row of a method.

    Args:
        label: The method's.
        runs: Of one variant of it, one for each seed, at least one.
        relative_time: The price of its step, where it was measured.

    Returns:
        The row.
    """
    weights = [run.trajectory.weights for run in runs]
    return Standing(
        balancer=label,
        title=runs[0].problem.labels.get(label, label),
        metric=mean_interval([None if run.failed else run.metric for run in runs]),
        relative_time=relative_time,
        final_weights={
            name: mean_interval([_last(run[name]) for run in weights]).mean for name in weights[0]
        },
        runs=runs,
    )


def _last(values: Sequence[Number]) -> Number:
    return next((value for value in reversed(values) if value is not None), None)
