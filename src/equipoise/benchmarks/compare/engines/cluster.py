"""The same runs on a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from equipoise.benchmarks.compare.cells import Cell
from equipoise.benchmarks.compare.engines.engine import Assignment, Watcher, train_cell
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.refusal import RequestError

_MOST_RETRIES = 5


class Cluster:
    """Trains as tasks of Ray; what a lost node was training is repeated elsewhere by Ray itself.

    The cluster is the one that ``RAY_ADDRESS`` names; without it, Ray is started on this machine.

    Args:
        assignment: What each task must know.

    Raises:
        RequestError: If Ray is not installed.
    """

    def __init__(self, assignment: Assignment) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise RequestError('--engine ray needs Ray: pip install "equipoise[ray]"') from None
        self.ray = ray
        self.assignment = assignment
        self.was_running = ray.is_initialized()
        if not self.was_running:
            ray.init(include_dashboard=False, log_to_driver=False)

    def run(self, cells: Sequence[Cell], watcher: Watcher) -> Iterator[Run]:
        """Trains; see `Engine`. Only the beginnings and the ends of runs are told."""
        task = self.ray.remote(
            num_cpus=self.assignment.threads, max_retries=_MOST_RETRIES, retry_exceptions=False
        )(_train)
        assignment = self.ray.put(self.assignment)
        pending: dict[Any, Cell] = {task.remote(assignment, cell): cell for cell in cells}
        for cell in cells:
            watcher.started(cell)
        while pending:
            (done,), _ = self.ray.wait(list(pending), num_returns=1)
            run: Run = self.ray.get(done)
            del pending[done]
            yield run

    def close(self) -> None:
        """Leaves the cluster; what was started here ends with it."""
        if not self.was_running:
            self.ray.shutdown()


def _train(assignment: Assignment, cell: Cell) -> Run:
    """In a process of the cluster."""
    import torch

    sys.path.extend(place for place in assignment.path if place not in sys.path)
    torch.set_num_threads(assignment.threads)
    return train_cell(assignment.find(), cell, assignment.fingerprint, lambda *_: None)
