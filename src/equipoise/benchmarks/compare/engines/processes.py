"""Several runs at a time, each in a process of this machine."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait

from equipoise.benchmarks.compare.cells import Cell
from equipoise.benchmarks.compare.engines.engine import Assignment, Watcher
from equipoise.benchmarks.compare.engines.worker import Broken, Stepped, Worker
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.refusal import RequestError

_MOST_DEATHS = 3


class Processes:
    """Trains in several processes; one that is killed loses its run, which another repeats.

    Args:
        assignment: What each process must know.
        workers: How many processes.
    """

    def __init__(self, assignment: Assignment, workers: int) -> None:
        self.assignment = assignment
        self.workers = workers
        self.team: list[Worker] = []

    def run(self, cells: Sequence[Cell], watcher: Watcher) -> Iterator[Run]:
        """Trains; see `Engine`.

        Raises:
            RequestError: If a run kills its process again and again.
            RuntimeError: If the problem itself raises an error.
        """
        waiting, deaths = deque(cells), Counter[object]()
        while waiting or any(worker.cell for worker in self.team):
            self._assign(waiting, watcher)
            for worker in self._speaking():
                cell, word = worker.cell, worker.listen()
                if isinstance(word, Run):
                    worker.cell = None
                    yield word
                elif cell is not None:
                    self._hear(worker, cell, word, watcher, waiting, deaths)

    def close(self) -> None:
        """Ends the processes."""
        for worker in self.team:
            worker.end()
        self.team = []

    def _assign(self, waiting: deque[Cell], watcher: Watcher) -> None:
        idle = [worker for worker in self.team if worker.cell is None]
        while waiting and (idle or len(self.team) < self.workers):
            if not idle:
                self.team.append(Worker(self.assignment))
                idle = [self.team[-1]]
            cell = waiting.popleft()
            watcher.started(cell)
            idle.pop().train(cell)

    def _speaking(self) -> list[Worker]:
        busy = {worker.connection: worker for worker in self.team if worker.cell is not None}
        ready = set(wait(list(busy)))
        return [worker for connection, worker in busy.items() if connection in ready]

    def _hear(
        self,
        worker: Worker,
        cell: Cell,
        word: Stepped | Broken | None,
        watcher: Watcher,
        waiting: deque[Cell],
        deaths: Counter[object],
    ) -> None:
        if isinstance(word, Stepped):
            watcher.stepped(cell, word.step, word.metric)
        elif word is None:
            self._bury(worker, cell, waiting, deaths)
        else:
            raise RuntimeError(f"{cell.row}, seed {cell.seed}, in another process:\n{word.text}")

    def _bury(
        self, worker: Worker, cell: Cell, waiting: deque[Cell], deaths: Counter[object]
    ) -> None:
        """Takes a dead worker off the team, and puts its cell first in the queue."""
        code = worker.end()
        self.team.remove(worker)
        deaths[cell.key] += 1
        if deaths[cell.key] == _MOST_DEATHS:
            raise RequestError(
                f"{cell.row}, seed {cell.seed}, ended its process {_MOST_DEATHS} times (the last "
                f"with code {code}); with fewer --workers there is more memory for each."
            )
        waiting.appendleft(cell)
