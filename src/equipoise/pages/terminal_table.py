"""A table for a terminal of any width: what has no room stands below, under the same row names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from equipoise.pages.terminal import Name

_GAP = 2
_PROSE = 28
"""Columns that a sentence is given before it has to stand in a block of its own."""


@dataclass(frozen=True)
class Column:
    """A column of a `TerminalTable`.

    Args:
        head: What stands above it; may have several lines.
        kind: ``"name"`` columns tell rows apart, stand in every block, and are broken at seams;
            ``"number"`` columns are never broken or cut; ``"prose"`` is broken between words.
    """

    head: str
    kind: Literal["name", "number", "prose"] = "number"


@dataclass(frozen=True)
class TerminalTable:
    """A table that rich prints at any width without cutting a name or a number.

    Where the terminal is too narrow for all columns, they stand in several blocks one below the
    other, each with the names of the rows.

    Args:
        columns: The names first.
        rows: One text per column, shown as it is: no markup.
        title: Stands above the first block.
        caption: Stands below the last.

    Example:
        >>> from rich.console import Console
        >>> table = TerminalTable(
        ...     [Column("", "name"), Column("left"), Column("right")], [["a", "1", "2"]]
        ... )
        >>> Console(width=10).print(table)
           left
        a     1
        <BLANKLINE>
           right
        a      2
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""
    caption: str = ""

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """The blocks, as rich asks for them."""
        if self.title:
            yield Text(self.title, style="italic")
        for number, places in enumerate(self._blocks(options.max_width)):
            if number:
                yield Text()
            yield self._block(places, options.max_width)
        if self.caption:
            yield Text(self.caption, style="dim italic")

    def _blocks(self, width: int) -> Iterator[list[int]]:
        """Which columns stand side by side: as many as there is room for, at least one."""
        names = [place for place, column in enumerate(self.columns) if column.kind == "name"]
        room = width - sum(self._room(place, width) for place in names)
        block, left = list(names), room
        for place in range(len(names), len(self.columns)):
            wanted = min(self._room(place, width), room)
            if wanted > left and block != names:
                yield block
                block, left = list(names), room
            block.append(place)
            left -= wanted
        yield block

    def _room(self, place: int, width: int) -> int:
        """What a column asks for, gap included; names get half of the terminal at most."""
        limits = {"name": width // 2 - _GAP, "prose": _PROSE, "number": width}
        return min(self._natural(place), limits[self.columns[place].kind]) + _GAP

    def _natural(self, place: int) -> int:
        cells = [self.columns[place].head, *(row[place] for row in self.rows)]
        return max(cell_len(line) for cell in cells for line in cell.splitlines() or [""])

    def _block(self, places: Sequence[int], width: int) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
        for place in places:
            column = self.columns[place]
            table.add_column(
                Text(column.head),
                justify="right" if column.kind == "number" else "left",
                overflow="fold",
                width=None if column.kind == "prose" else self._room(place, width) - _GAP,
            )
        for row in self.rows:
            table.add_row(*(self._cell(row[place], place) for place in places))
        return table

    def _cell(self, text: str, place: int) -> RenderableType:
        return Name(text) if self.columns[place].kind == "name" else Text(text)
