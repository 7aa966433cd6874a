"""`equipoise watch`: a record in the terminal, while a training writes it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from equipoise.monitor.curves import Array, curves_of, mean, thinned
from equipoise.monitor.history import History, RecordError, read_history
from equipoise.monitor.summary import headline, skips
from equipoise.pages.terminal import Name

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDE, _NARROW = 96, 66
"""From so many columns on there is room for long curves, and for short ones."""


def watch(
    folder: Path,
    console: Console,
    *,
    pause: float = 1.0,
    going: Callable[[], bool] = lambda: True,
) -> None:
    """Shows a record, and in a terminal goes on showing it as it grows, until Ctrl-C.

    A folder that holds no record yet is waited for. Where the console is no terminal, the record is
    shown once.

    Args:
        folder: Where a `Recorder` writes.
        console: Where it is shown.
        pause: Seconds between two looks.
        going: Asked before each further look.

    Raises:
        RecordError: If there is no record, and nobody to wait for one.
    """
    if not console.is_terminal:
        console.print(view(read_history(folder), console.width))
        return
    with Live(_look(folder, console.width), console=console, auto_refresh=False) as live:
        while going():
            time.sleep(pause)
            start = time.monotonic()
            live.update(_look(folder, console.width), refresh=True)
            # A long record takes a while to read, and the training wants the processor.
            time.sleep(4 * (time.monotonic() - start))


def _look(folder: Path, width: int) -> RenderableType:
    try:
        return view(read_history(folder), width)
    except RecordError:
        return Text(f"Waiting for a record in {folder} ...")


def view(history: History, width: int) -> RenderableType:
    """A record for the terminal: a sentence, and a line for each loss.

    Args:
        history: A record.
        width: How many columns there are.
    """
    if not history.entries:
        return Text(headline(history))
    return Group(_title(history), _table(history, width), Text(headline(history), style="dim"))


def _title(history: History) -> Text:
    last = history.entries[-1]
    return Text.assemble(
        (history.label, "bold"),
        f"  {history.header['method']}  step {last.step:,}",
        f"  {_speed(history)}  total {math.fsum(last.losses[i] for i in last.present):.4g}",
    )


def _speed(history: History) -> str:
    """Steps in a second, over the last kept ones; nothing across a pause between two starts."""
    entries = history.entries[-10:]
    seconds = entries[-1].time - entries[0].time
    return f"{(entries[-1].step - entries[0].step) / seconds:.3g} steps/s" if seconds > 0 else ""


def _table(history: History, width: int) -> Table:
    curves, last = curves_of(history), history.entries[-1]
    sparks = 20 if width >= _WIDE else 8 if width >= _NARROW else 0
    values = _sparks(curves.steps, curves.losses, sparks)
    weights = _sparks(curves.steps, curves.weights, sparks)
    shares, skipped = mean(curves.shares[-10:]), skips(curves)
    conflicts = _conflicts_of_each(history)
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("loss", overflow="fold", min_width=4)
    for column in ("value", "", "weight", "", "share", "conflicts", "skipped"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for i, name in enumerate(history.names):
        there = i in last.present
        table.add_row(
            Name(name),
            f"{last.losses[i]:.3g}" if there else "absent",
            values[i],
            f"{last.weights[i]:.3g}" if there else "",
            weights[i],
            "" if math.isnan(shares[i]) else f"{100 * shares[i]:.0f} %",
            conflicts[i],
            f"{skipped[i]:.0f}",
        )
    return table


def _sparks(steps: Array, rows: Array, points: int) -> list[str]:
    """The curve of each loss in so many blocks."""
    if not points:
        return [""] * rows.shape[1]
    return [_spark(row.tolist()) for row in thinned(steps, rows, points)[1].T]


def _conflicts_of_each(history: History) -> list[str]:
    """For each loss: of a hundred comparisons with another, how many found a conflict."""
    curves, count = curves_of(history), len(history.names)
    if not curves.measured.any():
        return [""] * count
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    rates = 100 * mean(curves.conflicts)
    mine = [[r for r, pair in zip(rates, pairs, strict=True) if i in pair] for i in range(count)]
    return [f"{math.fsum(found) / len(found):.0f} %" for found in mine]


def _spark(numbers: Sequence[float]) -> str:
    """A curve in one line of blocks.

    Example:
        >>> _spark([0.0, 1.0, 2.0, math.nan])
        '▁▅█ '
    """
    finite = [number for number in numbers if math.isfinite(number)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    width = (high - low) or 1.0
    top = len(_BLOCKS) - 1
    return "".join(
        _BLOCKS[round(top * (number - low) / width)] if math.isfinite(number) else " "
        for number in numbers
    )
