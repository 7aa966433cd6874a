"""`Journal`: `record.jsonl`, line by line, for a training that may be killed at any moment.

A line is one ``write`` to a file that is opened to append, so what a killed process leaves is whole
lines and at most one torn end. The first line that a process writes says where the run goes on: the
step that was saved with the balancer. Lines from there on, which a training wrote that was then
resumed from an older checkpoint, are taken out first, and so is a torn end. Nothing else is ever
removed: where a run begins anew, at step 0, the record before it is set aside under another name.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Protocol

from equipoise.monitor.entry import Entry
from equipoise.monitor.history import FILE_NAME, Header, History, RecordError, kept_before, parse
from equipoise.monitor.history import read_history as read
from equipoise.pages.files import write_atomically


class Book(Protocol):
    """Where entries go."""

    def append(self, entry: Entry, header: Header) -> None:
        """Adds a step; those at and after it, of an earlier attempt, go."""

    def history(self) -> History:
        """What was kept."""


class Journal:
    """The record of a folder.

    Args:
        folder: Made if need be.

    Raises:
        RecordError: If nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self._last: int | None = None  # the last step that this process wrote
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab"):
                pass
        except OSError as error:
            raise RecordError(
                f"`folder` is {str(folder)!r}, where no record can be written: {error.strerror}. "
                "Pass a folder that is yours."
            ) from error

    def check(self, header: Header) -> None:
        """Refuses the record of another run.

        Args:
            header: What is to be said of this one.

        Raises:
            RecordError: If the folder's record has other losses, or is of another method.
        """
        earlier = self._header()
        for key, called in (("names", "the losses"), ("method", "the method")):
            if earlier is not None and earlier.get(key) != header[key]:
                theirs, ours = _listed(earlier.get(key)), _listed(header[key])
                raise RecordError(
                    f"{self.path} is the record of a run with {called} {theirs}, and this one has "
                    f"{ours}. Nothing was changed; pass another folder."
                )

    def append(self, entry: Entry, header: Header) -> None:
        """Adds a step; those at and after it, of an earlier attempt, go.

        Args:
            entry: The step.
            header: Written before it where it says something new.

        Raises:
            OSError: If it cannot be written. The next call mends what is there.
        """
        if self._last is None or entry.step <= self._last:
            self._continue(entry.step, header)
        self._last = None
        with self.path.open("ab", buffering=0) as file:
            file.write(entry.to_line().encode() + b"\n")
        self._last = entry.step

    def history(self) -> History:
        """What was kept."""
        return read(self.folder)

    def _continue(self, step: int, header: Header) -> None:
        """Makes the file one that goes on with a step."""
        self.check(header)
        content = self.path.read_bytes() if self.path.exists() else b""
        lines = content.split(b"\n")
        if step == 0 and any(isinstance(parse(line), Entry) for line in lines):
            self._set_aside()
        else:
            whole = b"".join(line + b"\n" for line in kept_before(lines, step))
            if whole != content:
                write_atomically(self.path, whole.decode())
        if _told(self._header()) != _told(header):
            with self.path.open("ab", buffering=0) as file:
                file.write(json.dumps(header).encode() + b"\n")

    def _set_aside(self) -> None:
        """A run that begins anew leaves the record of the one before as it is."""
        number = 1
        while (aside := self.path.with_name(f"record-{number}.jsonl")).exists():
            number += 1
        self.path.replace(aside)
        warnings.warn(
            f"{self.path} held the record of a training; this one begins at step 0, so that one is "
            f"{aside.name} now.",
            stacklevel=2,
        )

    def _header(self) -> Header | None:
        """What was said of the run that wrote last."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return None
        headers = [kind for kind in map(parse, lines) if isinstance(kind, dict)]
        return headers[-1] if headers else None


class Memory:
    """Entries that are kept in memory alone."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._header: Header | None = None

    def append(self, entry: Entry, header: Header) -> None:
        """Adds a step; those at and after it, of an earlier attempt, go."""
        while self._entries and self._entries[-1].step >= entry.step:
            self._entries.pop()
        self._entries.append(entry)
        self._header = header

    def history(self) -> History:
        """What was kept.

        Raises:
            RecordError: If there was no step yet.
        """
        if self._header is None:
            raise RecordError("No step was kept yet; train first.")
        return History(self._header["method"], self._header, tuple(self._entries))


def _told(header: Header | None) -> Header | None:
    return None if header is None else {k: v for k, v in header.items() if k != "started"}


def _listed(value: object) -> str:
    return ", ".join(map(repr, value)) if isinstance(value, list) else repr(value)
