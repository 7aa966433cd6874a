from __future__ import annotations

import pytest

pytest.importorskip("docutils")
pytest.importorskip("latex2mathml")

from docs.extension.formulas import mathml


def test_lines_are_aligned_at_the_ampersands() -> None:
    drawn = mathml(r"a &= b \\ c &= d", block=True)
    assert drawn.count("<mtr>") == 2
    assert drawn.count("<mtd") == 4


@pytest.mark.parametrize("latex", [r"\nosuch x", r"\begin{nosuch} a & b \end{nosuch}"])
def test_what_cannot_be_drawn_stops_the_build(latex) -> None:
    with pytest.raises(ValueError, match="cannot be drawn"):
        mathml(latex, block=True)
