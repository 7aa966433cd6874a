"""What a comparison shows in the terminal: live bars while it runs, tables at the end."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from equipoise.benchmarks.compare.comparison import Comparison, Planned
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.compare.table import format_weight, ranking_cells
from equipoise.pages.terminal_table import Column, TerminalTable

if TYPE_CHECKING:
    from typing_extensions import Self

_NARROW = 80


class LiveBars:
    """One bar for each method, moved by a running comparison; an `Observer`.

    Args:
        comparison: What is going to run.
        steps: How many steps each run has.
        console: Where the bars appear.

    Example:
        >>> from rich.console import Console
        >>> from equipoise.benchmarks.compare.comparison import check, compare
        >>> def show(comparison):
        ...     with LiveBars(comparison, check(comparison), Console()) as bars:
        ...         compare(comparison, bars)
    """

    def __init__(self, comparison: Comparison, steps: int, console: Console) -> None:
        self.comparison = comparison
        self.steps = steps
        self.progress = Progress(*_bar_columns(console.width), console=console)
        self.bars: dict[str, TaskID] = {}
        self.left: dict[str, int] = {}
        self.current: Planned | None = None

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def planned(self, to_do: Sequence[Planned]) -> None:
        """Shows the bars, those of finished runs filled."""
        seeds = len(self.comparison.seeds)
        for method in self.comparison.methods:
            left = sum(planned.method == method for planned in to_do)
            bar = self.progress.add_task(
                self.comparison.problem.labels.get(method.label, method.label),
                total=seeds * self.steps,
                state="finished before" if left == 0 else "",
            )
            self.progress.update(bar, completed=(seeds - left) * self.steps)
            self.bars[method.label] = bar
            self.left[method.label] = left
        done = seeds * len(self.comparison.methods) - len(to_do)
        if done:
            self.progress.console.print(f"{done} runs were finished before; {len(to_do)} to do.")

    def timing(self) -> None:
        """Says why the bars stand still."""
        self.progress.console.print("Measuring the time of a step of each method in turn.")

    def started(self, run: Planned) -> None:
        """Notes whose bar moves."""
        self.current = run

    def stepped(self, step: int, metric: float) -> None:
        """Moves the bar of the current run."""
        if self.current is not None:
            state = f"seed {self.current.seed}, step {step} of {self.steps}, {metric:.3f}"
            self.progress.update(self.bars[self.current.method.label], advance=1, state=state)

    def finished(self, run: Run) -> None:
        """Shows the metric of the finished run, or how it failed."""
        self.left[run.balancer] -= 1
        done = (len(self.comparison.seeds) - self.left[run.balancer]) * self.steps
        metric = "not finite" if run.metric is None else f"{run.metric:.3f}"
        state = f"seed {run.seed}: {run.problem.metric} {metric}"
        if run.failure is not None:
            state = f"seed {run.seed}: {run.failure}"
        # A run that was stopped by an error took fewer steps than the bar has room for.
        self.progress.update(self.bars[run.balancer], completed=done, state=state)


def _bar_columns(width: int) -> list[ProgressColumn]:
    """Where there is no room for all, the names and how far each has come are what counts."""
    name, state = TextColumn("{task.description}"), TextColumn("{task.fields[state]}")
    return [name, state] if width < _NARROW else [name, BarColumn(), state, TimeRemainingColumn()]


def ranking_table(standings: Sequence[Standing]) -> TerminalTable:
    """The ranking for the terminal.

    Args:
        standings: Best first, at least one.

    Returns:
        A table with metric, interval and price of each method.
    """
    problem, options = standings[0].runs[0].problem, standings[0].runs[0].options
    return TerminalTable(
        title=f"{problem.name}: {options.epochs} epochs, batches of {options.batch_size}, "
        f"learning rate {options.lr:g}",
        columns=[
            Column("", "name"),
            Column("balancer", "name"),
            Column(f"{problem.metric}\nmean ± 95 %", "prose"),
            Column("seeds"),
            Column("time per step\n/ plain sum"),
        ],
        rows=[
            [str(rank), row.title, *ranking_cells(row)]
            for rank, row in enumerate(standings, start=1)
        ],
    )


def weights_table(standings: Sequence[Standing]) -> TerminalTable:
    """The weights that each method ended at, for the terminal.

    Args:
        standings: At least one.

    Returns:
        A table with a row for each method and a column for each loss.
    """
    losses = (Column(name.replace("_", "\n")) for name in standings[0].final_weights)
    return TerminalTable(
        title="Weights at the end, mean over the seeds",
        columns=[Column("balancer", "name"), *losses],
        rows=[
            [row.title, *(format_weight(weight) for weight in row.final_weights.values())]
            for row in standings
        ],
    )
