from __future__ import annotations

import plotly.graph_objects as go
import pytest

from equipoise.pages.picture_frame import GREY, NIGHT, PALETTE, lay_out


def test_every_picture_gets_the_same_font_and_its_own_height():
    figures = [go.Figure(), go.Figure()]
    for figure, height in zip(figures, (300, 500), strict=True):
        lay_out(figure, height)
    assert figures[0].layout.font == figures[1].layout.font
    assert [figure.layout.height for figure in figures] == [300, 500]


def test_no_method_is_drawn_in_the_colour_of_a_reference():
    assert GREY not in PALETTE
    assert len(set(PALETTE)) == len(PALETTE)


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colour", [*PALETTE, GREY])
def test_every_line_is_seen_on_a_light_page_and_on_a_dark_one(colour):
    assert contrast(colour, "#ffffff") >= 3
    assert contrast(NIGHT[colour], "#14171a") >= 3
