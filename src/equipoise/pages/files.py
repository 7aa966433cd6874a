"""Files that are whole or not there."""

from __future__ import annotations

import os
import re
from pathlib import Path

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices, with any ending."""


def folder_name(name: str) -> str:
    """A name as every system takes it for a folder.

    Args:
        name: Chosen by a user.

    Returns:
        The same where nothing forbids it; else with ``_`` in place of what is not allowed.

    Example:
        >>> folder_name("digits"), folder_name("mnist: a/b?"), folder_name("aux"), folder_name("..")
        ('digits', 'mnist_ a_b_', '_aux', '_')
    """
    allowed = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).rstrip(". ") or "_"
    return f"_{allowed}" if _RESERVED.fullmatch(allowed) else allowed


def write_atomically(path: Path, text: str) -> None:
    """Writes a file so that a reader, or an interruption, never meets half of it.

    Args:
        path: Where; its folder is made if need be.
        text: What, as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
