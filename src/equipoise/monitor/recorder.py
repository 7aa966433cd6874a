"""`Recorder`: keeps what a training's balancer did, and tells trackers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch import Tensor
from typing_extensions import Self

from equipoise.autograd.compiled import is_compiled
from equipoise.monitor.entry import Entry
from equipoise.monitor.history import Header, History
from equipoise.monitor.journal import Book, Journal, Memory
from equipoise.monitor.probe import Found, Probe
from equipoise.monitor.snapshot import entry_of
from equipoise.monitor.subject import (
    Subject,
    check_subject,
    header_of,
    looks_at_directions,
    processes_of,
)
from equipoise.monitor.trackers import Tracked
from equipoise.record import Record

if TYPE_CHECKING:
    import pandas as pd


class Recorder:
    """Keeps the steps of a balancer, or of an optimizer for several losses, as they happen.

    In a folder they are kept in ``record.jsonl``, a line each, written when the step is over. A
    training that is killed and goes on from a checkpoint goes on in the same file, without a gap or
    a step twice: the step is counted by the balancer and saved with it, and lines that the killed
    process wrote after the checkpoint was taken are taken out. Where a training begins anew in the
    folder of another, that one's record is set aside as ``record-1.jsonl``. Of several processes
    the first writes.

    On steps that are not kept nothing is read from an accelerator, and nothing is computed. A kept
    step reads ``4 T`` numbers and writes a line. A measured step costs ``T`` backward passes and
    room for ``T`` gradients more; it changes neither ``.grad``, nor generators, nor the result.

    Args:
        balancer: Whose steps are kept: a balancer, of several on top of each other the outermost;
            `MTAdam` or `AutoBalance`.
        folder: Where; made if need be. ``None`` keeps them in memory.
        every: Keeps each ``every``-th step, the first included.
        measure: Measures norms and cosines at each ``measure``-th step, and keeps it, where the
            method does not look at them itself; 0 never does. What they are measured over is all
            that is shared.

    Raises:
        TypeError: If ``balancer`` leaves no records.
        ValueError: If ``every`` or ``measure`` is out of range; if ``folder`` cannot be written, or
            holds the record of a run with other losses or another method (`RecordError`).

    Example:
        >>> import torch
        >>> from equipoise import Equal
        >>> balancer, weight = Equal(["a", "b"]), torch.tensor([2.0, 1.0], requires_grad=True)
        >>> with Recorder(balancer, every=2, measure=4) as recorder:
        ...     for _ in range(5):
        ...         record = balancer.backward({"a": weight.square().sum(), "b": -weight.sum()})
        >>> [(entry.step, entry.measured) for entry in recorder.history().entries]
        [(0, True), (2, False), (4, True)]
    """

    def __init__(
        self,
        balancer: Subject,
        folder: str | Path | None = None,
        *,
        every: int = 10,
        measure: int = 0,
    ) -> None:
        check_subject(balancer)
        _check_steps(every, measure)
        self.balancer = balancer
        self.folder = None if folder is None else Path(folder)
        self.every, self.measure = every, measure
        self._processes = processes_of(balancer)
        self._trackers: list[Tracked] = []
        self._book: Book = self._open(self.folder)
        self._probe = Probe(self._processes)
        self._found: tuple[int, Found] | None = None
        self._header: Header | None = None
        self._warned: set[str] = set()
        self._handles = [balancer.register_record_hook(_Listener(self._keep), every=every)]
        if measure:
            self._listen_for_measuring()

    def track(self, tracker: Any) -> Self:  # noqa: ANN401
        """Sends the numbers of each kept step to a tracker, too.

        Args:
            tracker: TensorBoard's ``SummaryWriter``, a run of Weights & Biases, the module
                ``mlflow``, a logger of Lightning, a ``Fabric``, an ``Accelerator``, or any
                ``fn(numbers, step)``. What it raises is told in one warning; the training goes on.

        Returns:
            The recorder itself.

        Raises:
            TypeError: If it takes no numbers.
        """
        self._trackers.append(Tracked(tracker))
        return self

    def history(self) -> History:
        """What was kept.

        Raises:
            RecordError: If there was no step yet.
        """
        return self._book.history()

    def report(self, path: str | Path | None = None) -> Path:
        """Writes a page that shows what was kept.

        Args:
            path: Where; by default ``report.html`` in the folder.

        Returns:
            Where the page is.

        Raises:
            ValueError: If there is no folder and no ``path``, or no step was kept (`RecordError`).
            ModuleNotFoundError: If plotly is not installed.
        """
        from equipoise.monitor.page import REPORT_NAME, write_page

        if path is None and self.folder is None:
            msg = "This recorder has no folder; say where: report('report.html')."
            raise ValueError(msg)
        return write_page([self.history()], Path(path or (self.folder or Path()) / REPORT_NAME))

    def frame(self) -> pd.DataFrame:
        """What was kept, as a table: a row for each step, columns as `Record.report` names them.

        Raises:
            ModuleNotFoundError: If pandas is not installed.
            RecordError: If there was no step yet.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            msg = "frame() makes a pandas DataFrame, and pandas is not here: pip install pandas"
            raise ModuleNotFoundError(msg) from error
        history = self.history()
        rows = [entry.flat(history.names) for entry in history.entries]
        steps = pd.Index([entry.step for entry in history.entries], name="step")
        return pd.DataFrame(rows, index=steps)

    def close(self) -> None:
        """Keeps no further step. What was kept stays."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, folder: Path | None) -> Book:
        if folder is None or not self._processes.first:
            return Memory()
        journal = Journal(folder)
        if self.balancer.names is not None:
            journal.check(header_of(self.balancer, self.balancer.names, self.every, self.measure))
        return journal

    def _listen_for_measuring(self) -> None:
        before, after = self.balancer.register_record_pre_hook, self.balancer.register_record_hook
        self._first = before(_Listener(self._keep_buffers))
        self._handles += [
            self._first,
            before(_Listener(self._measure), every=self.measure),
            after(_Listener(self._keep_measured), every=self.measure),
        ]

    def _keep_buffers(self, _: object, losses: Mapping[str, Tensor], step: int) -> None:
        """A compiled function whose first pass frees its graph could never be measured later."""
        self._first.remove()
        if step % self.measure and is_compiled(tuple(losses.values())):
            self._measured(losses)

    def _measure(self, _: object, losses: Mapping[str, Tensor], step: int) -> None:
        if not looks_at_directions(self.balancer):
            found = self._measured(losses)
            self._found = None if found is None else (step, found)

    def _measured(self, losses: Mapping[str, Tensor]) -> Found | None:
        try:
            return self._probe.measure(losses, self.balancer.names or ())
        except (RuntimeError, TypeError, ValueError) as error:
            self._warn(f"Norms and cosines could not be measured for the record: {error}")
            return None

    def _keep_measured(self, balancer: Subject, record: Record, step: int) -> None:
        if step % self.every:  # else it is kept anyhow
            self._keep(balancer, record, step)

    def _keep(self, balancer: Subject, record: Record, step: int) -> None:
        """Reads a step and writes it down: the one place that waits for an accelerator."""
        found, self._found = self._found, None
        if not self._processes.first:
            return
        measured = found[1] if found is not None and found[0] == step else None
        entry = entry_of(balancer, record, step, measured)
        self._write(entry, record.names)
        numbers = entry.flat(record.names) if self._trackers else {}
        for tracker in self._trackers:
            tracker(numbers, step)

    def _write(self, entry: Entry, names: tuple[str, ...]) -> None:
        if self._header is None:
            self._header = header_of(self.balancer, names, self.every, self.measure)
        try:
            self._book.append(entry, self._header)
        except OSError as error:
            self._warn(f"Steps cannot be written to {self.folder}: {error}. The training goes on.")

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, stacklevel=2)


class _Listener:
    """A recorder's hook. Copies of a balancer, such as a mean of the model, keep no record."""

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call

    def __call__(self, *told: object) -> None:
        self._call(*told)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[()]]:
        return _deaf, ()


def _deaf() -> Callable[..., None]:
    return _hear_nothing


def _hear_nothing(*_: object) -> None:
    """Stands in the copy where the recorder's hook stands."""


def _check_steps(every: int, measure: int) -> None:
    for name, number, least in (("every", every, 1), ("measure", measure, 0)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            msg = f"`{name}` is {number!r}; it is a number of steps, at least {least}."
            raise ValueError(msg)
