"""Which variant of a row its result is taken from: the best on validation data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.rows import Row, Variant
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.compare.statistics import mean_interval


@dataclass(frozen=True)
class Finished:
    """The finished runs of a comparison, found by what they are.

    Args:
        runs: All of the same problem and fingerprint.
    """

    runs: Sequence[Run]
    _found: Mapping[tuple[str, TrainingOptions, int], Run] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = {(run.balancer, run.options, run.seed): run for run in self.runs}
        object.__setattr__(self, "_found", found)

    def of(self, variant: Variant, seeds: Sequence[int]) -> list[Run]:
        """The finished runs of a variant with these seeds, in their order."""
        keys = ((*variant.key, seed) for seed in seeds)
        return [self._found[key] for key in keys if key in self._found]


def chosen(rows: Sequence[Row], finished: Finished, seeds: Sequence[int]) -> Mapping[str, Variant]:
    """For each row the variant with the best mean of the metric on validation data.

    Test data have no say: what is chosen on them is better on them by chance. A variant that fails
    on more seeds stands behind one that fails on fewer. Weights are retrained with the options of
    the variant that they come from.

    Args:
        rows: Of a comparison.
        finished: What was run.
        seeds: With which is chosen.

    Returns:
        By the row's label; the first of several that are equally good. A row of which a variant has
        no run yet is left out.
    """
    places = {row.label: _best(row, finished, seeds) for row in rows if not row.source}
    found = {row.label: (row, places[row.source or row.label]) for row in rows}
    return {
        label: row.variants[place] for label, (row, place) in found.items() if place is not None
    }


def _best(row: Row, finished: Finished, seeds: Sequence[int]) -> int | None:
    if len(row.variants) == 1:
        return 0
    runs = [finished.of(variant, seeds) for variant in row.variants]
    if not all(runs):
        return None
    return min(range(len(runs)), key=lambda index: _loss_of(runs[index]))


def _loss_of(runs: Sequence[Run]) -> tuple[float, float]:
    """What is smallest for the best: the share of failures, then the mean, turned round."""
    failed = sum(run.failed or run.validation is None for run in runs)
    mean = mean_interval([None if run.failed else run.validation for run in runs]).mean
    if failed == len(runs):
        return 1.0, 0.0
    return failed / len(runs), -mean if runs[0].problem.higher_is_better else mean
