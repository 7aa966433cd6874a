"""`Summary`: a diagnosis for people, as text, as HTML, for rich."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from equipoise.pages.terminal_table import TerminalTable

Rows = list[list[str]]


@dataclass(frozen=True)
class Summary:
    """What people are shown of a diagnosis: all of it text, so that it can be kept in a file.

    Attributes:
        verdict: In a word.
        sentence: Why.
        advised: The names of the methods to try.
        advice: The same with price and reason, a line for each.
        losses: A table, its head first.
        pairs: A table, its head first; empty where no two losses can be compared.
        overall: One line over all losses.
        notes: What to know of single losses.
    """

    verdict: str
    sentence: str
    advised: list[str]
    advice: list[str]
    losses: list[list[str]]
    pairs: list[list[str]]
    overall: str
    notes: list[str]

    @property
    def tables(self) -> list[list[list[str]]]:
        """The tables that there are."""
        return [table for table in (self.losses, self.pairs) if table]

    def as_text(self) -> str:
        """For `print`."""
        parts = [_aligned(table) for table in self.tables]
        parts += [self.overall, "\n".join(self.notes)]
        parts.append(f"Verdict: {self.verdict}. {self.sentence}")
        if self.advice:
            parts.append("\n".join(["To try:", *(f"  {line}" for line in self.advice)]))
        return "\n\n".join(filter(None, parts))

    def as_html(self) -> str:
        """For notebooks and pages: a fragment, everything escaped."""
        verdict = f"<strong>{escape(self.verdict)}</strong>. {escape(self.sentence)}"
        parts = [f"<p>Verdict: {verdict}</p>"]
        if self.advice:
            parts += ["<p>To try:</p>", _html_list(self.advice)]
        captions = ("What was found of each loss", "Pairs of losses, the lowest cosines first")
        parts += [_html_table(*both) for both in zip(captions, self.tables, strict=False)]
        return "\n".join([*parts, f"<p>{escape(self.overall)}</p>", _html_list(self.notes)])

    def as_rich(self) -> RenderableType:
        """For rich's consoles."""
        from rich.console import Group
        from rich.padding import Padding
        from rich.text import Text

        verdict = Text.assemble("Verdict: ", (self.verdict, "bold"), f". {self.sentence}")
        tried = [Text("To try:")] if self.advice else []
        advice = [Padding(Text(line), (0, 0, 0, 2)) for line in self.advice]
        lines = [Text(line) for line in (self.overall, *self.notes, "")]
        tables = [part for table in self.tables for part in (_rich_table(table), Text())]
        return Group(*tables, *lines, verdict, *tried, *advice)


def _aligned(rows: Rows) -> str:
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        gaps = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [row[0] + gaps[0], *map(str.__add__, gaps[1:], row[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    """How many places of a terminal a text takes: wide characters two, combining ones none."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in text
    )


def _html_table(caption: str, rows: Rows) -> str:
    head, *body = rows
    first, *others = map(escape, head)
    heads = f'<th scope="col" class="name">{first}</th>'
    heads += "".join(f'<th scope="col">{cell}</th>' for cell in others)
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in body
    )
    head_and_body = f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody>"
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">'
        f"<table><caption>{caption}</caption>{head_and_body}</table></div>"
    )


def _html_list(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _rich_table(rows: Rows) -> TerminalTable:
    from equipoise.pages.terminal_table import Column, TerminalTable

    (name, *heads), *body = rows
    return TerminalTable([Column(name, "name"), *map(Column, heads)], body)
