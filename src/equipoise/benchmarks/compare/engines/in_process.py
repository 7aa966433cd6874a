"""One run after the other, here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from equipoise.benchmarks.compare.cells import Cell
from equipoise.benchmarks.compare.engines.engine import Watcher, train_cell
from equipoise.benchmarks.compare.fingerprint import Fingerprint
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.problem import Problem


class InProcess:
    """Trains in this process, in the order of the cells.

    Args:
        problem: What is trained.
        fingerprint: The problem's.
    """

    def __init__(self, problem: Problem, fingerprint: Fingerprint) -> None:
        self.problem = problem
        self.fingerprint = fingerprint

    def run(self, cells: Sequence[Cell], watcher: Watcher) -> Iterator[Run]:
        """Trains; see `Engine`."""
        for cell in cells:
            watcher.started(cell)
            yield train_cell(self.problem, cell, self.fingerprint, partial(watcher.stepped, cell))

    def close(self) -> None:
        """Nothing was started."""
