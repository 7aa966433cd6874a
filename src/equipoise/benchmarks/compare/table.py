"""The cells that terminal and page show of a row."""

from __future__ import annotations

import math

from equipoise.benchmarks.compare.statistics import Standing


def ranking_cells(row: Standing) -> tuple[str, str, str]:
    """A row of the ranking as text.

    Args:
        row: A method over all its seeds.

    Returns:
        Its result, the number of its seeds, and the price of a step.
    """
    return row.result, str(len(row.runs)), format_time(row.relative_time)


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
