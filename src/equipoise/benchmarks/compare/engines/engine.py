"""What every engine does, and the one run that all of them are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from equipoise.benchmarks.compare.cells import Cell
from equipoise.benchmarks.compare.fingerprint import Fingerprint
from equipoise.benchmarks.compare.optimizers import with_optimizer
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.compare.training import OnStep, train
from equipoise.benchmarks.problem import Problem
from equipoise.benchmarks.problems import find_problem


class Watcher(Protocol):
    """Is told what an engine does."""

    def started(self, cell: Cell) -> None:
        """Before a run; again where it is repeated."""

    def stepped(self, cell: Cell, step: int, metric: float) -> None:
        """Now and then while a run goes."""


class Engine(Protocol):
    """Trains cells; writes nothing down."""

    def run(self, cells: Sequence[Cell], watcher: Watcher) -> Iterator[Run]:
        """Trains.

        Args:
            cells: What.
            watcher: Is told how it goes.

        Yields:
            Each run when it is finished, exactly once, in any order.
        """

    def close(self) -> None:
        """Ends whatever the engine has started; what is half trained is lost."""


def train_cell(problem: Problem, cell: Cell, fingerprint: Fingerprint, watch: OnStep) -> Run:
    """Trains once.

    Args:
        problem: What.
        cell: How, and with which seed.
        fingerprint: The problem's.
        watch: Is told of every step.

    Returns:
        The run, filed under the variant's label.
    """
    variant = cell.variant
    run = train(problem, variant.method, variant.options, cell.seed, watch, fingerprint)
    return replace(run, balancer=variant.label)


@dataclass(frozen=True)
class Assignment:
    """What another process must know to train cells of a comparison.

    A problem is made of functions that no process can send to another, so it is told by name.

    Args:
        problem: As `find_problem` takes it.
        optimizer: As `with_optimizer` takes it.
        fingerprint: The problem's.
        threads: Threads of torch for each run.
        path: Where Python looks for the problem's module.
    """

    problem: str
    optimizer: str
    fingerprint: Fingerprint
    threads: int
    path: tuple[str, ...]

    def find(self) -> Problem:
        """The problem, in the other process."""
        return with_optimizer(find_problem(self.problem), self.optimizer)
