"""What the command line says of an error that nobody foresaw."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

import equipoise

_NOT_THE_USERS = tuple(
    folder.resolve()
    for folder in (
        Path(equipoise.__file__).parent,
        *(Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib")),
    )
)


def told(error: Exception) -> str:
    """An error for standard error.

    Args:
        error: What ended a command.

    Returns:
        Lines. One that came about in the user's own code is told from there on: what called it is
        of no help. Of a disk that is full, or a file that cannot be opened, a sentence says all.
        Any other is told whole, for it may be a fault of equipoise.
    """
    users = _from_users_code(error.__traceback__)
    if users is None and isinstance(error, OSError):
        return f"equipoise: {error}\n"
    where = error.__traceback__ if users is None else users
    return "".join(traceback.format_exception(type(error), error, where))


def _from_users_code(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename).resolve()
        if file.is_file() and not any(file.is_relative_to(folder) for folder in _NOT_THE_USERS):
            return trace
        trace = trace.tb_next
    return None
