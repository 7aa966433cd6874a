"""What the site does to pages that are also read as they are: links, and a place for new ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from docs.extension.reference_pages import methods

if TYPE_CHECKING:
    from sphinx.application import Sphinx

OTHERS = "<!-- others -->"
CHOICES = re.compile(r"(?<=<!-- choices -->).*(?=<!-- /choices -->)", re.DOTALL)


def add_navigation(app: Sphinx) -> None:
    """Connects what changes the text of pages.

    Args:
        app: The build.
    """
    app.connect("source-read", _change)


def _change(app: Sphinx, document: str, source: list[str]) -> None:
    if document == "index":
        names = [page.stem for page in sorted(Path(app.srcdir).glob("*.md"))]
        source[0] = with_others(source[0], names)
    elif document == "which":
        source[0] = CHOICES.sub(lambda table: with_links(table[0]), source[0])


def with_others(text: str, documents: list[str]) -> str:
    """The start page, with a place in its contents for every document that it does not name.

    Args:
        text: Has the line ``<!-- others -->`` in a table of contents.
        documents: The names of all documents beside it, without ending.
    """
    named = {*text.splitlines(), "index"}
    return text.replace(OTHERS, "\n".join(name for name in documents if name not in named))


def with_links(table: str) -> str:
    """The table of choices, each method a link to its page.

    Args:
        table: Names methods as in code: ```GradNorm(every=10)```.
    """
    known = methods()
    return re.sub(
        r"`(\w+)(\([^`]*\))?`",
        lambda code: f"[{code[0]}](methods/{code[1]}.md)" if code[1] in known else code[0],
        table,
    )
