"""What a comparison shows in the terminal while it runs: one bar for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from equipoise.benchmarks.compare.cells import Cell
from equipoise.benchmarks.compare.comparison import Comparison
from equipoise.benchmarks.compare.run import Run
from equipoise.pages.terminal import Name

if TYPE_CHECKING:
    from typing_extensions import Self


_NARROW = 80
_NUMBERS = 48
"""What a seed, its metric and a time take beside a name."""


@dataclass
class _Bar:
    """A row's bar, in runs."""

    task: TaskID
    done: int
    going: dict[object, float] = field(default_factory=dict)

    @property
    def length(self) -> float:
        return self.done + sum(self.going.values())


class LiveBars:
    """One bar for each row, moved by a running comparison; an `Observer`.

    Args:
        comparison: What is going to run.
        steps: How many steps a run has, where its options do not say it.
        console: Where the bars appear.

    Example:
        >>> from rich.console import Console
        >>> from equipoise.benchmarks.compare.checking import check
        >>> from equipoise.benchmarks.compare.comparison import compare
        >>> def show(comparison):
        ...     with LiveBars(comparison, check(comparison), Console()) as bars:
        ...         compare(comparison, bars)
    """

    def __init__(self, comparison: Comparison, steps: int, console: Console) -> None:
        self.comparison = comparison
        self.steps = steps
        self.progress = Progress(*_bar_columns(console.width), console=console)
        self.bars: dict[str, _Bar] = {}

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

    def planned(self, to_do: Sequence[Cell], done: Mapping[str, int]) -> None:
        """Shows the bars, those of finished runs filled; later stages make them longer."""
        if not self.bars and any(done.values()):
            before = sum(done.values())
            self.progress.console.print(f"{before} runs were finished before; {len(to_do)} to do.")
        for label, count in done.items():
            left = sum(cell.row == label for cell in to_do)
            if count + left:
                self._show(label, count, left)

    def timing(self) -> None:
        """Says why the bars stand still."""
        self.progress.console.print("Measuring the time of a step of each method in turn.")

    def started(self, cell: Cell) -> None:
        """Notes that a run goes, for the first time or again."""
        self.bars[cell.row].going[cell.key] = 0.0

    def stepped(self, cell: Cell, step: int, metric: float) -> None:
        """Moves the bar of the run's row."""
        bar, steps = self.bars[cell.row], cell.variant.options.steps or self.steps
        bar.going[cell.key] = step / steps
        state = f"seed {cell.seed}, step {step} of {steps}, {metric:.3f}"
        self.progress.update(bar.task, completed=bar.length, state=state)

    def finished(self, cell: Cell, run: Run) -> None:
        """Shows the metric of the finished run, or how it failed."""
        metric = "not finite" if run.metric is None else f"{run.metric:.3f}"
        state = f"seed {run.seed}: {run.problem.metric} {metric}"
        if run.failure is not None:
            state = f"seed {run.seed}: {run.failure}"
        bar = self.bars[cell.row]
        bar.going.pop(cell.key, None)
        bar.done += 1
        self.progress.update(bar.task, completed=bar.length, state=state)

    def _show(self, label: str, done: int, left: int) -> None:
        if label not in self.bars:
            title = self.comparison.problem.labels.get(label, label)
            self.bars[label] = _Bar(self.progress.add_task(title, state=""), done)
        bar = self.bars[label]
        self.progress.update(bar.task, total=done + left, completed=bar.length)
        if not left and not self._said(bar):
            self.progress.update(bar.task, state="finished before")

    def _said(self, bar: _Bar) -> bool:
        (task,) = (task for task in self.progress.tasks if task.id == bar.task)
        return bool(task.fields["state"])


class _NameColumn(ProgressColumn):
    """What a row is called, whole: two methods may differ in their last option alone."""

    def render(self, task: Task) -> Name:
        return Name(task.description)


def _bar_columns(width: int) -> list[ProgressColumn]:
    """Where there is no room for all, the names and how far each has come are what counts."""
    if width < _NARROW:
        name = _NameColumn(Column(max_width=width // 2, overflow="fold"))
        state = Column(max_width=width // 2 - 1, overflow="fold")
        return [name, TextColumn("{task.fields[state]}", markup=False, table_column=state)]
    # The bar and long names give way: a number that was cut says nothing.
    name = _NameColumn(Column(max_width=width - _NUMBERS, overflow="fold"))
    state = Column(overflow="fold")
    left = TimeRemainingColumn(table_column=Column(no_wrap=True))
    return [
        name,
        BarColumn(width // 6),
        TextColumn("{task.fields[state]}", markup=False, table_column=state),
        left,
    ]
