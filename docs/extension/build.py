"""Connects it all with Sphinx: `setup` is called by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from docs.extension.formulas import add_mathml
from docs.extension.method_pages import method_pages
from docs.extension.navigation import add_navigation
from docs.extension.reference_pages import reference_pages

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx.

    Args:
        app: The build.
    """
    add_mathml(app)
    add_navigation(app)
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir)))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(source: Path) -> None:
    """Writes the pages of methods and of the reference, and removes those of what is gone.

    Args:
        source: The folder of the documents.
    """
    for folder, pages in (("methods", method_pages()), ("reference", reference_pages())):
        (source / folder).mkdir(exist_ok=True)
        for stale in (source / folder).glob("*.md"):
            if stale.name not in pages:
                stale.unlink()
        for name, text in pages.items():
            _write_if_new(source / folder / name, text)


def _write_if_new(page: Path, text: str) -> None:
    # A page that stays as it is is not read again by the next build.
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")
