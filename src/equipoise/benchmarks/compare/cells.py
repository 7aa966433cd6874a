"""What is to be trained next: a comparison is done in stages, each known from the runs before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.retraining import retrained
from equipoise.benchmarks.compare.rows import Row, Variant
from equipoise.benchmarks.compare.selection import Finished, chosen


@dataclass(frozen=True)
class Cell:
    """One run still to do.

    Args:
        row: The label of its row.
        variant: What is trained, and how.
        seed: With which seed.
    """

    row: str
    variant: Variant
    seed: int

    @property
    def key(self) -> tuple[str, TrainingOptions, int]:
        """What its run will be filed under."""
        return (*self.variant.key, self.seed)


def next_cells(
    rows: Sequence[Row], finished: Finished, seeds: Sequence[int], tuning_seeds: Sequence[int]
) -> list[Cell]:
    """The next stage: variants first, then what was chosen on all seeds, then its weights again.

    Args:
        rows: Of the comparison.
        finished: What was run.
        seeds: All of them.
        tuning_seeds: With which is chosen among the variants of a row.

    Returns:
        The runs that can be done now, seed by seed, so that a stop leaves comparable rows; none
        where the comparison is finished.
    """
    first = [
        Cell(row.label, variant, seed)
        for seed in seeds
        for row in rows
        for variant in row.variants
        if not row.source and (seed in tuning_seeds or len(row.variants) == 1)
    ]
    if left := _missing(first, finished):
        return left
    best = chosen(rows, finished, tuning_seeds)
    second = [
        Cell(row.label, best[row.label], seed) for seed in seeds for row in rows if not row.source
    ]
    return _missing(second, finished) or _missing(
        _retrainings(rows, best, finished, seeds), finished
    )


def _missing(cells: Sequence[Cell], finished: Finished) -> list[Cell]:
    return [cell for cell in cells if not finished.of(cell.variant, [cell.seed])]


def _retrainings(
    rows: Sequence[Row], best: Mapping[str, Variant], finished: Finished, seeds: Sequence[int]
) -> list[Cell]:
    """Each seed gets the weights that were found with it."""
    found = [
        (row, seed, retrained(run, row.last))
        for seed in seeds
        for row in rows
        if row.source
        for run in finished.of(best[row.source], [seed])
    ]
    return [
        Cell(row.label, replace(best[row.label], method=method), seed)
        for row, seed, method in found
        if method is not None
    ]
