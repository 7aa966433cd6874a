"""What all pictures have in common: template, font, margins, colours."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

FONT = "system-ui, sans-serif"

PALETTE = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#3d8fc4",
    "#b87f00",
    "#7b3294",
    "#8c510a",
    "#1b7837",
    "#b2182b",
)
"""Distinguishable with any colour vision: Okabe & Ito's palette without its yellow, with
sky blue and orange darkened to be seen on white, continued with darker relatives."""

GREY = "#6b6b6b"
"""References are drawn in it."""


NIGHT: Mapping[str, str] = {
    "#0072b2": "#4aa3df",
    "#d55e00": "#ff8a3d",
    "#009e73": "#2fc79a",
    "#cc79a7": "#e29bc3",
    "#3d8fc4": "#8cc8f0",
    "#b87f00": "#e6b34d",
    "#7b3294": "#b98bd0",
    "#8c510a": "#c99a63",
    "#1b7837": "#6cbf84",
    "#b2182b": "#f07383",
    GREY: "#a3a3a3",
    "#111111": "#f2f2f2",
}
"""What takes a colour's place on a dark page."""


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
