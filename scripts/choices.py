"""Brings the table of "Which method?" up to date: `choices.py docs/which.md`.

The table comes from the rules that a diagnosis's advice comes from; nothing in it is typed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from equipoise.monitor.rules import choices_table

BEGIN, END = "<!-- choices -->", "<!-- /choices -->"


def with_choices(text: str) -> str:
    """A document whose table of choices is up to date.

    Args:
        text: Has the lines ``<!-- choices -->`` and ``<!-- /choices -->``; what stands between them
            is replaced.

    Returns:
        The new text.

    Raises:
        ValueError: If a marker is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not (begin and end):
        msg = f"The document needs the lines {BEGIN} and {END}, in this order."
        raise ValueError(msg)
    return f"{before}{BEGIN}\n\n{choices_table()}\n\n{END}{after}"


def main() -> None:
    """Rewrites the document in place."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: choices.py DOCUMENT")
    document = Path(sys.argv[1])
    try:
        text = with_choices(document.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(str(error)) from None
    document.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
