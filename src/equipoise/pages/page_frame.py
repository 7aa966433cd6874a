"""The frame of every page: one file that needs no network."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

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


def embed(figure: go.Figure, name: str) -> str:
    """A figure as a part of a page.

    Args:
        figure: What to draw.
        name: Its id on the page.

    Returns:
        HTML.
    """
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"displaylogo": False, "responsive": True},
    )
    return html
