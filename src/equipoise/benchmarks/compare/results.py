"""`results.jsonl`: one line for each finished run, safe against a process killed at any moment."""

from __future__ import annotations

import json
import os
from pathlib import Path

from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.refusal import RequestError

FILE_NAME = "results.jsonl"

_LINE_START = b'{"problem":'
"""How every line begins that `Run.to_line` wrote, and every piece of one."""


class Results:
    """The finished runs of one folder.

    Args:
        folder: Where `results.jsonl` is or will be; made by the first `append`.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def read(self) -> list[Run]:
        """The finished runs, oldest first; where one was run twice, the later counts.

        A torn last line, left by a killed process, is no finished run and is passed over.

        Raises:
            RequestError: If another line cannot be read; the message names all of them.
        """
        whole, last = self._split()
        lines = whole.split(b"\n")[:-1]
        if last and not _is_torn(last):
            lines.append(last)
        parsed = list(map(_parse, lines))
        faults = {i: found for i, found in enumerate(parsed, start=1) if isinstance(found, str)}
        if faults:
            raise RequestError(self._faulty(faults))
        return list({run.key: run for run in parsed if isinstance(run, Run)}.values())

    def append(self, run: Run) -> None:
        """Adds a run; when this returns, it is on the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.repair()
        with self.path.open("ab") as file:
            file.write(run.to_line().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def repair(self) -> bool:
        """Completes or cuts off a torn last line; returns whether there was one.

        What no run can have left there stays: `read` refuses it.
        """
        whole, last = self._split()
        if not last:
            return False
        with self.path.open("r+b") as file:
            if _is_torn(last):
                file.truncate(len(whole))
            else:
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())
        return True

    def _split(self) -> tuple[bytes, bytes]:
        """The whole lines, and what stands after the last line end."""
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise RequestError(f"{self.path} cannot be read: {error.strerror}.") from error
        end = content.rfind(b"\n") + 1
        return content[:end], content[end:]

    def _faulty(self, faults: dict[int, str]) -> str:
        """One sentence for all faults, the first in detail."""
        (first, reason), *others = faults.items()
        where = f"{self.path}, line {first} cannot be read ({reason})"
        if not others:
            return f"{where}; correct or delete that line."
        shown = [str(line) for line, _ in others[:10]]
        more = ", ..." if len(others) > len(shown) else ""
        return f"{where}, nor can line {', '.join(shown)}{more}; correct or delete these lines."


def _parse(line: bytes) -> Run | str:
    """The run, or what is wrong with its line."""
    try:
        return Run.from_line(line)
    except ValueError as error:
        return str(error)


def _is_torn(line: bytes) -> bool:
    """Whether a last line is a run of which only the beginning was written."""
    if not _LINE_START.startswith(line[: len(_LINE_START)]):
        return False
    try:
        json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return True
    except (RecursionError, ValueError):
        pass
    return False  # no beginning of an object is JSON: this one is whole, and no run
