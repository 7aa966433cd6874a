"""The tables of a record's page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from equipoise.monitor.curves import Curves, mean, most_opposed
from equipoise.monitor.history import History
from equipoise.monitor.summary import Row, rows_of


def table_of(history: History, whose: str) -> list[str]:
    """What became of each loss.

    Args:
        history: With at least one step.
        whose: Stands in front of the caption.
    """
    said = escape(f"{whose}What became of each loss")
    columns = _heads(("at first", "at last", "weight at first", "at last", "share", "skipped"))
    caption = f"{whose}Means over the first tenth of the kept steps, and over the last."
    return [
        f'<div class="scroll" role="region" tabindex="0" aria-label="{said}">',
        f"<table><caption>{escape(caption)}</caption>",
        f'<thead><tr><th scope="col" class="name">loss</th>{columns}</tr></thead><tbody>',
        *(_cells(row.name, _numbers(row)) for row in rows_of(history)),
        "</tbody></table></div>",
    ]


def _numbers(row: Row) -> list[str]:
    numbers = [_number(number) for number in (*row.loss, *row.weight)]
    share = "not measured" if np.isnan(row.share) else f"{100 * row.share:.0f} %"
    return [*numbers, share, str(row.skipped)]


def table_of_pairs(curves: Curves, whose: str) -> list[str]:
    """Cosines and conflicts of each pair, for those who read no colours.

    Args:
        curves: Nothing is shown where no step was measured.
        whose: Stands in front of the caption.
    """
    if not curves.measured.any():
        return []
    shown = most_opposed(curves)
    means, rates = mean(shown.cosines), 100 * mean(shown.conflicts)
    caption = f"{whose}Pairs of losses, over {int(curves.measured.sum())} measured steps."
    if more := len(curves.pairs) - len(shown.pairs):
        caption += f" {more} more pairs, with higher cosines, are not shown."
    said = escape(f"{whose}Pairs of losses")
    columns = _heads(("mean cosine", "conflicts per 100"))
    return [
        f'<div class="scroll" role="region" tabindex="0" aria-label="{said}">',
        f"<table><caption>{escape(caption)}</caption>",
        f'<thead><tr><th scope="col" class="name">pair</th>{columns}</tr></thead><tbody>',
        *(
            _cells(pair, [f"{cosine:.2f}", f"{rate:.0f}"])
            for pair, cosine, rate in zip(shown.pairs, means, rates, strict=True)
        ),
        "</tbody></table></div>",
    ]


def _heads(names: Sequence[str]) -> str:
    return "".join(f'<th scope="col">{name}</th>' for name in names)


def _cells(name: str, cells: Sequence[str]) -> str:
    numbers = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(name)}</th>{numbers}</tr>'


def _number(number: float) -> str:
    return "" if np.isnan(number) else f"{number:.3g}"
