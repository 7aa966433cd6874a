from __future__ import annotations

import plotly.graph_objects as go

from equipoise.pages.page_frame import embed, render_page


def test_title_is_escaped_and_body_stands_as_given():
    page = render_page("a < b", "<p>$1 & more</p>")
    assert "<title>a &lt; b</title>" in page
    assert "<p>$1 & more</p>" in page


def test_figure_is_a_part_without_plotly_of_its_own():
    html = embed(go.Figure(), "curves")
    assert 'id="curves"' in html
    assert "<html" not in html
    assert len(html) < 10_000
