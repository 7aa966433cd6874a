from __future__ import annotations

import itertools

import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from equipoise.pages.picture_frame import (
    GREY,
    NIGHT,
    PALETTE,
    for_phones,
    lay_out,
    line_style,
)


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


def test_no_two_lines_of_a_picture_look_alike_and_the_first_differ_in_both():
    styles = [line_style(place) for place in range(60)]
    assert len({(style["color"], style["dash"]) for style in styles}) == 60
    for kind in ("color", "dash"):
        assert len({style[kind] for style in styles[: len(PALETTE)]}) == len(PALETTE)


def test_on_a_phone_panels_stand_one_below_the_other_and_keep_their_titles():
    figure = make_subplots(2, 2, subplot_titles=["a", "b", "c", "d"])
    for place in range(4):
        figure.add_trace(go.Scatter(y=[1, 2]), row=place // 2 + 1, col=place % 2 + 1)
    lay_out(figure, 400)
    layout = for_phones(figure)
    domains = [layout[axis].domain for axis in ("yaxis", "yaxis2", "yaxis3", "yaxis4")]
    assert all(low > top for (low, _), (_, top) in itertools.pairwise(domains))
    assert [note.y for note in layout.annotations] == [top for _, top in domains]
    assert {layout[axis].domain for axis in ("xaxis", "xaxis4")} == {(0, 1)}
    assert layout.height > figure.layout.height == 400
