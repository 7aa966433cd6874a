"""A bar for what takes long, where a terminal and a package for it are there."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import TypeVar

Item = TypeVar("Item")


def shown(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Goes through items beside a bar on standard error; without one if nobody would see it.

    Args:
        items: What is gone through.
        total: How many there are at most; 0 shows no bar.
        what: What the bar is called.
    """
    if total > 1 and sys.stderr.isatty():
        if find_spec("rich"):
            from rich.console import Console
            from rich.progress import track

            bar = Console(stderr=True)
            items = track(items, what, total=total, console=bar, transient=True)
        elif find_spec("tqdm"):
            from tqdm import tqdm

            items = tqdm(items, desc=what, total=total, leave=False)
    yield from items
