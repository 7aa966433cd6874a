from __future__ import annotations

import plotly.graph_objects as go

from equipoise.pages.picture_frame import GREY, PALETTE, lay_out


def test_every_picture_gets_the_same_font_and_its_own_height():
    figures = [go.Figure(), go.Figure()]
    for figure, height in zip(figures, (300, 500), strict=True):
        lay_out(figure, height)
    assert figures[0].layout.font == figures[1].layout.font
    assert [figure.layout.height for figure in figures] == [300, 500]


def test_no_method_is_drawn_in_the_colour_of_a_reference():
    assert GREY not in PALETTE
    assert len(set(PALETTE)) == len(PALETTE)
