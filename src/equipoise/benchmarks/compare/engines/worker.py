"""A process that trains one cell after the other, and the end of the pipe that speaks with it."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TypeAlias

from equipoise.benchmarks.compare.cells import Cell
from equipoise.benchmarks.compare.engines.engine import Assignment, train_cell
from equipoise.benchmarks.compare.run import Run

_SECONDS_BETWEEN_WORDS = 0.1


@dataclass(frozen=True)
class Stepped:
    """How far the worker's run is."""

    step: int
    metric: float


@dataclass(frozen=True)
class Broken:
    """An error that is no result of a method, as its traceback."""

    text: str


Word: TypeAlias = Stepped | Run | Broken
"""What a worker says."""


class Worker:
    """The parent's side of a process that trains.

    Each has a pipe of its own and no lock that others wait for, so that one killed in the middle of
    a word takes nobody along. A fresh interpreter is started rather than this one forked: a fork
    would inherit the locks of torch's threads, but not the threads.

    Args:
        assignment: What it must know.
    """

    def __init__(self, assignment: Assignment) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, assignment), daemon=True)
        with _without_interrupts():
            self.process.start()
        theirs.close()  # or the end of the process would not be heard
        self.cell: Cell | None = None

    def train(self, cell: Cell) -> None:
        """Gives it a cell; a worker that is gone is noticed when it is listened to."""
        self.cell = cell
        try:
            self.connection.send(cell)
        except OSError:
            return

    def listen(self) -> Word | None:
        """What it says next; ``None`` if it has died, perhaps in the middle of a word."""
        try:
            word: Word = self.connection.recv()
        except (EOFError, OSError):
            return None
        return word

    def end(self) -> int | None:
        """Ends it, whatever it does; returns how it ended."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        return self.process.exitcode


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C is the parent's to answer: a process started here ignores it from its first moment."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where signals cannot be set; the process will show a traceback of its own
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(connection: Connection, assignment: Assignment) -> None:
    """The worker's side: it ends when the parent does, however that ends."""
    import torch

    sys.path[:] = assignment.path
    torch.set_num_threads(assignment.threads)
    try:
        while True:
            _train(connection, assignment, connection.recv())
    except (EOFError, OSError):
        return


def _train(connection: Connection, assignment: Assignment, cell: Cell) -> None:
    said = 0.0

    def watch(step: int, metric: float) -> None:
        nonlocal said
        if time.monotonic() - said > _SECONDS_BETWEEN_WORDS:
            said = time.monotonic()
            connection.send(Stepped(step, metric))

    try:
        run = train_cell(assignment.find(), cell, assignment.fingerprint, watch)
    except Exception:  # noqa: BLE001 (the parent raises it; one that is gone ends `_work`)
        connection.send(Broken(traceback.format_exc()))
    else:
        connection.send(run)
