"""The columns that terminal and page show of a ranking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from equipoise.benchmarks.compare.goal import reached
from equipoise.benchmarks.compare.other_view import other_view
from equipoise.benchmarks.compare.paired import difference
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.methods import PLAIN_SUM


@dataclass(frozen=True)
class RankingColumn:
    """One column of the ranking.

    Args:
        head: Its title; a line end where it may be broken.
        cells: What stands in it, by the row's label; nothing where there is no entry.
        kind: Whether it may be broken between words.
    """

    head: str
    cells: Mapping[str, str]
    kind: Literal["number", "prose"] = "number"


def ranking_columns(rows: Sequence[Standing]) -> list[RankingColumn]:
    """What every ranking shows.

    Args:
        rows: Best first, at least one.

    Returns:
        The columns after rank and name.
    """
    several = any(len(row.runs) > 1 for row in rows)
    metric = rows[0].runs[0].problem.metric + ("\nmean ± 95 %" if several else "")
    times = {row.balancer: format_time(row.relative_time) for row in rows}
    return [
        RankingColumn(metric, {row.balancer: row.result for row in rows}, "prose"),
        RankingColumn("seeds", {row.balancer: str(len(row.runs)) for row in rows}),
        RankingColumn("time per step\n/ plain sum", times),
    ]


def detail_columns(rows: Sequence[Standing], goal: float | None = None) -> list[RankingColumn]:
    """What a ranking shows where there is something to show.

    Args:
        rows: Best first, at least one.
        goal: A value of the metric; with it there is a column on how often it was reached.

    Returns:
        The columns; none that is empty.
    """
    found = [
        _against_plain_sum(rows),
        _other_view(rows),
        _reached(rows, goal),
        _compute(rows),
        RankingColumn(
            "chosen on\nvalidation data", {row.balancer: row.choice for row in rows}, "prose"
        ),
    ]
    return [column for column in found if any(column.cells.values())]


def _against_plain_sum(rows: Sequence[Standing]) -> RankingColumn:
    plain = next((row for row in rows if row.balancer == PLAIN_SUM), None)
    if plain is None or len(plain.runs) < 2:
        return RankingColumn("", {})
    gaps = {row.balancer: str(difference(row, plain)) for row in rows if row is not plain}
    return RankingColumn("- plain sum\npaired ± 95 %", gaps)


def _other_view(rows: Sequence[Standing]) -> RankingColumn:
    view = other_view(rows)
    return RankingColumn(
        view.title.replace(" of ", "\nof "),
        {label: str(metric) for label, metric in view.metrics.items()},
    )


def _reached(rows: Sequence[Standing], goal: float | None) -> RankingColumn:
    if goal is None:
        return RankingColumn("", {})
    counts = {row.balancer: str(reached(row, goal)) for row in rows}
    return RankingColumn(f"reached {goal:g}\nprobability", counts)


def _compute(rows: Sequence[Standing]) -> RankingColumn:
    """Only where something was tried: else it is the price of a step once more."""
    if not any(row.choice for row in rows):
        return RankingColumn("", {})
    spent = {row.balancer: format_time(row.compute) for row in rows}
    return RankingColumn("all training\nin plain runs", spent)


def format_time(ratio: float | None) -> str:
    """A relative time for a table.

    Example:
        >>> format_time(1.234), format_time(None)
        ('1.23', 'not measured')
    """
    return "not measured" if ratio is None else f"{ratio:.2f}"


def format_weight(weight: float) -> str:
    """A weight for a narrow table: one digit below one, two above.

    Example:
        >>> format_weight(0.012345), format_weight(1.2345), format_weight(float("nan"))
        ('0.01', '1.2', '')
    """
    if math.isnan(weight):
        return ""
    return f"{weight:.1g}" if abs(weight) < 1 else f"{weight:.2g}"
