"""Formulas as MathML, which browsers draw themselves: no script, no network, no LaTeX."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

UNKNOWN = re.compile(r"<m[io]>(?:\\|&(?!#))")
"""A command, or an alignment, that was taken for letters."""

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator


def add_mathml(app: Sphinx) -> None:
    """Makes ``html_math_renderer = "mathml"`` known.

    Args:
        app: The build.
    """
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))


def mathml(latex: str, *, block: bool) -> str:
    """A formula as an element of a page.

    Args:
        latex: As it stands in a docstring.
        block: Whether it has a line of its own; then lines may be broken and aligned.

    Raises:
        ValueError: If it holds what would be drawn as the letters of a command.
    """
    if block and ("\\\\" in latex or "&" in latex) and "\\begin{" not in latex:
        latex = f"\\begin{{split}}{latex}\\end{{split}}"
    latex = latex.replace("\\arg\\min", "\\operatorname*{argmin}")  # which it does know
    drawn = convert(latex, display="block" if block else "inline")
    if UNKNOWN.search(drawn):
        raise ValueError(f"This cannot be drawn as MathML: {latex}")
    return drawn


def _inline(translator: HTML5Translator, node: Element) -> None:
    translator.body.append(mathml(node.astext(), block=False))
    raise SkipNode


def _block(translator: HTML5Translator, node: Element) -> None:
    formulas = [part for part in node.astext().split("\n\n") if part.strip()]
    drawn = "".join(mathml(formula, block=True) for formula in formulas)
    translator.body.append(f'<div class="math">{drawn}</div>\n')
    raise SkipNode
