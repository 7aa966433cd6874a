"""Formulas as MathML, which browsers draw themselves: no script, no network, no LaTeX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

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
    """
    if block and "\\\\" in latex and "\\begin{" not in latex:
        latex = f"\\begin{{aligned}}{latex}\\end{{aligned}}"
    return convert(latex, display="block" if block else "inline")


def _inline(translator: HTML5Translator, node: Element) -> None:
    translator.body.append(mathml(node.astext(), block=False))
    raise SkipNode


def _block(translator: HTML5Translator, node: Element) -> None:
    formulas = [part for part in node.astext().split("\n\n") if part.strip()]
    drawn = "".join(mathml(formula, block=True) for formula in formulas)
    translator.body.append(f'<div class="math" tabindex="0">{drawn}</div>\n')
    raise SkipNode
