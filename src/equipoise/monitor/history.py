"""`History`: a record as it was read, whole or with lines that cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from equipoise.monitor.entry import Entry

FILE_NAME = "record.jsonl"

Header: TypeAlias = dict[str, Any]
"""What is said of a run before its steps: method, names of the losses, options, versions."""


class RecordError(ValueError):
    """A folder that can hold, or show, no record; the message is one line for the user to read."""


@dataclass(frozen=True)
class History:
    """The kept steps of a run.

    Attributes:
        label: What the run is called beside others.
        header: What was said of it, at its last start.
        entries: Its steps, ascending, no step twice.
        unread: How many lines could not be read.
    """

    label: str
    header: Header
    entries: Sequence[Entry]
    unread: int = 0
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Names the losses."""
        object.__setattr__(self, "names", tuple(self.header["names"]))


def read_history(folder: Path | str) -> History:
    """Reads the record of a folder, also while a training writes it.

    A torn last line is passed over, one in the midst that cannot be read is counted.

    Args:
        folder: Holds `record.jsonl`.

    Raises:
        RecordError: If there is no record, or nothing that can be read.
    """
    path = Path(folder) / FILE_NAME
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        lines = [b""]
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error
    header, entries, unread = _taken_in(lines)
    if header is None:
        raise RecordError(
            f"{path} holds no record yet; `equipoise.Recorder(balancer, {str(folder)!r})` "
            "writes one while a training runs."
        )
    return History(Path(folder).name or str(folder), header, entries, unread)


def _taken_in(lines: Iterable[bytes]) -> tuple[Header | None, list[Entry], int]:
    header: Header | None = None
    found: dict[int, Entry] = {}
    unread = 0
    *whole, last = lines
    for line in [*whole, last]:
        kind = parse(line)
        if isinstance(kind, Entry):
            if header is not None and len(kind.losses) == len(header["names"]):
                found[kind.step] = kind
        elif kind is not None:
            header = kind
        elif line.strip() and line is not last:
            unread += 1
    return header, [found[step] for step in sorted(found)], unread


def parse(line: bytes) -> Entry | Header | None:
    """What a line says: an entry, a header, or nothing that can be read."""
    try:
        read = json.loads(line)
        if "names" in read:
            return dict(read)
        return Entry.from_json(read)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None


def kept_before(lines: Sequence[bytes], step: int) -> Iterator[bytes]:
    """The lines with which a record goes on at a step: all but its own and later ones.

    Args:
        lines: Without their ends.
        step: The step that comes next.
    """
    for line in lines:
        kind = parse(line)
        if kind is not None and not (isinstance(kind, Entry) and kind.step >= step):
            yield line
