"""The tables of a comparison, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from equipoise.benchmarks.compare.paired import ranks
from equipoise.benchmarks.compare.sentences import training_words
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.compare.table import (
    Column,
    detail_columns,
    format_weight,
    ranking_columns,
)


def ranking_table(standings: Sequence[Standing]) -> Table:
    """The ranking for the terminal.

    Args:
        standings: Best first, at least one.

    Returns:
        A table with metric, interval and price of each method.
    """
    title = f"{standings[0].runs[0].problem.name}: {training_words(standings)}"
    return _table(title, standings, ranking_columns(standings))


def details_table(standings: Sequence[Standing], goal: float | None = None) -> Table | None:
    """What else is to be said of each row, for the terminal; the page has all in one table.

    Args:
        standings: Best first, at least one.
        goal: A value of the metric, for a column on how often it was reached.

    Returns:
        A table; ``None`` where nothing else is to be said.
    """
    columns = detail_columns(standings, goal)
    return _table("In more detail", standings, columns) if columns else None


def _table(title: str, standings: Sequence[Standing], columns: Sequence[Column]) -> Table:
    table = Table(title=title)
    table.add_column("")
    table.add_column("balancer")
    for column in columns:
        table.add_column(column.head, justify="right")
    for rank, row in zip(ranks(standings), standings, strict=True):
        table.add_row(rank, row.title, *(column.cells.get(row.balancer, "") for column in columns))
    return table


def weights_table(standings: Sequence[Standing]) -> Table:
    """The weights that each method ended at, for the terminal.

    Args:
        standings: At least one.

    Returns:
        A table with a row for each method and a column for each loss.
    """
    table = Table(title="Weights at the end, mean over the seeds", box=None, padding=(0, 1, 0, 0))
    table.add_column("balancer")
    for name in standings[0].final_weights:
        table.add_column(name.replace("_", "\n"), justify="right", no_wrap=True)
    for row in standings:
        weights = (format_weight(weight) for weight in row.final_weights.values())
        table.add_row(row.balancer, *weights)
    return table
