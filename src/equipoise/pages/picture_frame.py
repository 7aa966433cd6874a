"""What all pictures of the benchmarks have in common: template, font, margins, colours."""

from __future__ import annotations

import plotly.graph_objects as go

FONT = "system-ui, sans-serif"

PALETTE = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#7b3294",
    "#8c510a",
    "#1b7837",
    "#b2182b",
)
"""Distinguishable with any colour vision: Okabe & Ito's palette without its yellow, which is too
pale for lines on white, continued with darker relatives."""

GREY = "#6b6b6b"
"""References are drawn in it."""


def lay_out(figure: go.Figure, height: int, *, font_size: int = 14) -> None:
    """Gives a figure the look of all others.

    Args:
        figure: Changed in place.
        height: In pixels.
        font_size: In pixels.
    """
    figure.update_layout(
        template="plotly_white",
        font={"family": FONT, "size": font_size, "color": "#1c1c1c"},
        height=height,
        margin={"l": 70, "r": 20, "t": 40, "b": 60},
        hoverlabel={"font": {"family": FONT}},
    )
