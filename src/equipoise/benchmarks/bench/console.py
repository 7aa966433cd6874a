"""What `equipoise bench` shows in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from equipoise.benchmarks.bench.contest import run_bench
from equipoise.benchmarks.bench.prices import write_bench
from equipoise.benchmarks.bench.report import write_report
from equipoise.benchmarks.bench.table import COLUMNS, NOTES, by_setting, cells, title, unsteady
from equipoise.pages.terminal import say, terminal
from equipoise.pages.terminal_table import Column, TerminalTable

if TYPE_CHECKING:
    from equipoise.benchmarks.bench.prices import Bench
    from equipoise.benchmarks.bench.request import PriceRequest


def show_bench(request: PriceRequest, folder: Path) -> None:
    """Runs a benchmark in front of the user and writes `bench.json` and `bench.html`.

    Args:
        request: What to measure.
        folder: Where the files go. They are written after each model and number of losses, so that
            an interruption costs only the one at work.
    """
    console, shown, skipped = terminal(), 0, 0
    with console.status("Measuring.") as status:
        for bench in run_bench(request, lambda line: status.update(Text(line))):
            write_bench(folder, bench)
            for table in list(price_tables(bench))[shown:]:
                console.print(table)
            for line in bench.skipped[skipped:]:
                say(console, line)
            shown, skipped = shown + 1, len(bench.skipped)
            console.print(f"Page: {write_report(folder, bench)}", soft_wrap=True)
    say(console, NOTES)
    say(console, unsteady(bench.prices))


def price_tables(bench: Bench) -> Iterator[TerminalTable]:
    """The tables, one for each model and number of losses.

    Args:
        bench: What was measured.

    Yields:
        A table with one row for each method, in the order of `Bench.prices`.
    """
    for setting, prices in by_setting(bench.prices):
        yield TerminalTable(
            title=setting,
            columns=[Column("", "name"), *map(Column, COLUMNS)],
            rows=[[title(price), *cells(price)] for price in prices],
        )
