"""The result of a comparison: its rows, each from the runs of the variant that was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from equipoise.benchmarks.compare.rows import Row, Variant
from equipoise.benchmarks.compare.selection import Finished, chosen
from equipoise.benchmarks.compare.statistics import Standing, best_first, standing
from equipoise.benchmarks.compare.step_times import Prices


def gather(
    rows: Sequence[Row],
    finished: Finished,
    seeds: Sequence[int],
    tuning_seeds: Sequence[int],
    prices: Prices,
) -> list[Standing]:
    """The ranking of a comparison, finished or stopped on the way.

    Args:
        rows: Of the comparison.
        finished: What was run.
        seeds: All of them.
        tuning_seeds: With which was chosen.
        prices: What steps cost.

    Returns:
        Best first, one for each row that has a result.
    """
    best = chosen(rows, finished, tuning_seeds)
    there = [(row, best[row.label]) for row in rows if row.label in best]
    found = [_standing(row, variant, finished, seeds, prices) for row, variant in there]
    own = {each.balancer: each for each in found if each is not None}
    sources = {row.label: row.source for row in rows if row.source}
    return best_first([_with_source(each, own, sources) for each in own.values()])


def _standing(
    row: Row, variant: Variant, finished: Finished, seeds: Sequence[int], prices: Prices
) -> Standing | None:
    runs = finished.of(variant, seeds)
    if not runs:
        return None
    price = prices.ratios.get(variant.priced_as.label)
    return replace(
        standing(row.label, runs, price),
        choice="" if row.source else _choice(row, variant),
        compute=_compute(row, finished, seeds, prices),
        tried=[finished.of(each, seeds) for each in row.variants],
    )


def _choice(row: Row, variant: Variant) -> str:
    if len(row.variants) == 1:
        return ""
    words = [variant.label] if variant.label != row.label else []
    if len({each.options.lr for each in row.variants}) > 1:
        words.append(f"lr {variant.options.lr:g}")
    return f"{', '.join(words)}; of {len(row.variants)}"


def _compute(row: Row, finished: Finished, seeds: Sequence[int], prices: Prices) -> float | None:
    """Plain runs' worth of all runs of a row, per seed; unknown where a price is."""
    spent = 0.0
    for variant in row.variants:
        price = prices.ratios.get(variant.priced_as.label)
        runs = len(finished.of(variant, seeds))
        if runs and price is None:
            return None
        # Where time is what all are given, a run costs the same whoever steps in it.
        spent += runs * (1.0 if variant.options.seconds is not None else price or 0.0)
    return spent / len(seeds)


def _with_source(row: Standing, own: dict[str, Standing], sources: dict[str, str]) -> Standing:
    """What weights are read off has to be trained first: it counts too."""
    source = own.get(sources.get(row.balancer, ""))
    if source is None or source.compute is None or row.compute is None:
        return row
    return replace(row, compute=row.compute + source.compute)
