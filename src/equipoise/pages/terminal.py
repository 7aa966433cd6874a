"""What every command prints with: text as it is, and lines that end between words and names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.text import Text

_PIECE = re.compile(r".+?(?:[\s_/:,|+=-]+|(?=\()|$)")
"""A name up to its next seam, the seam included."""


def terminal() -> Console:
    """A console that shows text as it is: ``[x]`` in a name is no markup, ``:key:`` no picture."""
    return Console(markup=False, emoji=False)


def say(console: Console, sentence: str) -> None:
    """Prints a sentence: in a terminal broken between words, else in one line, to be searched.

    Args:
        console: Where it is said.
        sentence: Without markup.
    """
    console.print(sentence, soft_wrap=not console.is_terminal, markup=False, emoji=False)


def folded(name: str, width: int) -> str:
    """A name in lines of a width, broken at its seams where it has some.

    Args:
        name: Of a loss, a method, an option.
        width: How many cells a line has; some characters take two.

    Example:
        >>> print(folded("surface_normals_prediction", 12))
        surface_
        normals_
        prediction
    """
    if cell_len(name) <= width:
        return name
    lines = [""]
    for piece in _PIECE.findall(name):
        for part in [piece] if cell_len(piece.rstrip()) <= width else chop_cells(piece, width):
            if cell_len((lines[-1] + part).rstrip()) > width:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


@dataclass(frozen=True)
class Name:
    """A name that rich folds at its seams, in as many lines as its place asks for.

    Args:
        text: The name, shown as it is.
    """

    text: str

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """The lines, as rich asks for them."""
        yield Text(folded(self.text, options.max_width))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """How narrow it may become, and how wide it would be."""
        widest = max(map(cell_len, folded(self.text, 1).splitlines()))
        return Measurement(widest, cell_len(self.text)).with_maximum(options.max_width)
