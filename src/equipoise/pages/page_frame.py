"""The frame of every page: one file that needs no network."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from equipoise.pages.picture_frame import NIGHT


def render_page(title: str, body: str) -> str:
    """A whole page.

    Args:
        title: Plain text.
        body: HTML, with figures as `embed` gives them.

    Returns:
        HTML with plotly.js and the styles in it.
    """
    frame = files("equipoise.pages").joinpath("page_frame.html").read_text(encoding="utf-8")
    return Template(frame).substitute(
        title=escape(title), plotly=get_plotlyjs(), body=body, night=json.dumps(dict(NIGHT))
    )


def embed(figure: go.Figure, name: str, *, on_phone: go.Layout | None = None) -> str:
    """A figure as a part of a page.

    Args:
        figure: What to draw.
        name: Its id on the page.
        on_phone: The layout that it has on a narrow page, where another one suits it there.

    Returns:
        HTML.
    """
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"displaylogo": False, "responsive": True},
    )
    return html if on_phone is None else f"{_layout(name, on_phone)}\n{html}"


def _layout(name: str, layout: go.Layout) -> str:
    """A layout as data that the page finds when it draws the picture of this name."""
    data = layout.to_plotly_json()
    data.pop("template", None)
    text = json.dumps(data, cls=PlotlyJSONEncoder).replace("</", "<\\/")
    return f'<script type="application/json" id="{name}-on-phone">{text}</script>'
