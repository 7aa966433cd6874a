"""The tables of a comparison, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.benchmarks.compare.paired import ranks
from equipoise.benchmarks.compare.sentences import training_words
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.compare.table import (
    RankingColumn,
    detail_columns,
    format_weight,
    ranking_columns,
)
from equipoise.pages.terminal import folded
from equipoise.pages.terminal_table import Column, TerminalTable

_HEAD = 16
"""Cells for the name of a loss above its weights; what is longer is folded."""


def ranking_table(standings: Sequence[Standing]) -> TerminalTable:
    """The ranking for the terminal.

    Args:
        standings: Best first, at least one.

    Returns:
        A table with metric, interval and price of each method.
    """
    title = f"{standings[0].runs[0].problem.name}: {training_words(standings)}"
    return _table(title, standings, ranking_columns(standings))


def details_table(standings: Sequence[Standing], goal: float | None = None) -> TerminalTable | None:
    """What else is to be said of each row, for the terminal; the page has all in one table.

    Args:
        standings: Best first, at least one.
        goal: A value of the metric, for a column on how often it was reached.

    Returns:
        A table; ``None`` where nothing else is to be said.
    """
    columns = detail_columns(standings, goal)
    return _table("In more detail", standings, columns) if columns else None


def _table(
    title: str, standings: Sequence[Standing], shown: Sequence[RankingColumn]
) -> TerminalTable:
    names = zip(ranks(standings), (row.title for row in standings), strict=True)
    cells = [[column.cells.get(row.balancer, "") for column in shown] for row in standings]
    return TerminalTable(
        title=title,
        columns=[
            Column("", "name"),
            Column("balancer", "name"),
            *(Column(column.head, column.kind) for column in shown),
        ],
        rows=[[*name, *those] for name, those in zip(names, cells, strict=True)],
    )


def weights_table(standings: Sequence[Standing]) -> TerminalTable:
    """The weights that each method ended at, for the terminal.

    Args:
        standings: At least one.

    Returns:
        A table with a row for each method and a column for each loss.
    """
    losses = (Column(folded(name, _HEAD)) for name in standings[0].final_weights)
    return TerminalTable(
        title="Weights at the end, mean over the seeds",
        columns=[Column("balancer", "name"), *losses],
        rows=[
            [row.title, *(format_weight(weight) for weight in row.final_weights.values())]
            for row in standings
        ],
    )
