"""What all pictures have in common: template, font, margins, colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

FONT = "system-ui, sans-serif"
_ROOM, _ALONE, _ENTRY = 210, 360, 17
"""On a phone, in pixels: for one panel of several, for one alone, for a name in the legend."""

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

INK = "#1c1c1c"
"""What is written."""

DASHES = (
    "solid",
    "dot",
    "dashdot",
    "longdash",
    "12px,3px",
    "2px,7px",
    "9px,3px,2px,3px,2px,3px",
    "16px,4px,6px,4px",
    "4px,2px",
    "20px,3px,2px,3px",
    "8px,8px",
)
"""One more than there are colours, so that no two lines have colour and dash in common until all
are used up; plotly's "dash" is left to references."""


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
    INK: "#e8e8e8",
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
        font={"family": FONT, "size": font_size, "color": INK},
        height=height,
        margin={"l": 70, "r": 20, "t": 40, "b": 60},
        hoverlabel={"font": {"family": FONT}},
    )


def line_style(place: int) -> dict[str, str]:
    """How the line of this place is drawn: the first ten differ in colour and in dash.

    Args:
        place: From 0.

    Returns:
        What plotly's ``line`` takes.
    """
    return {"color": PALETTE[place % len(PALETTE)], "dash": DASHES[place % len(DASHES)]}


def for_phones(figure: go.Figure) -> go.Layout:
    """The layout of a picture on a narrow page.

    Args:
        figure: With one panel, or with several that `plotly.subplots.make_subplots` laid out and
            gave a title each.

    Returns:
        The layout with panels one below the other, the legend below them all, and the names of
        categories inside, above what they name.
    """
    layout = go.Layout(figure.layout)
    axes = sorted((name for name in layout if name.startswith("yaxis")), key=_number)
    _name_inside(layout)
    height = _ROOM * len(axes) if len(axes) > 1 else max(figure.layout.height, _ALONE)
    if len(axes) > 1:
        _stack(layout, axes)
    entries = sum(trace.showlegend is not False for trace in figure.data)
    below = _ENTRY * entries if layout.showlegend else 0
    layout.update(
        height=height + below,
        font={"size": 12},
        margin={"l": 52, "r": 12, "t": 28, "b": 56 + below},
        legend={
            "orientation": "h",
            "x": 0,
            "y": 0,
            "xanchor": "left",
            "yanchor": "bottom",
            "tracegroupgap": 0,
        },
    )
    layout.legend.yref = "container"
    return layout


def _number(axis: str) -> int:
    return int(axis.removeprefix("yaxis") or 1)


def _stack(layout: go.Layout, axes: Sequence[str]) -> None:
    """Panels one below the other, each with its title and ticks, the last alone says of what."""
    share, gap = 1 / len(axes), 44 / (_ROOM * len(axes))
    for place, axis in enumerate(axes):
        top = 1 - place * share
        layout[axis].update(domain=[top - share + gap, top], title=None, showticklabels=True)
        across = layout[axis.replace("y", "x")]
        across.update(domain=[0, 1], showticklabels=True)
        if place < len(axes) - 1:
            across.title = None
        if place < len(layout.annotations):
            layout.annotations[place].update(x=0, y=top, xanchor="left")


def _name_inside(layout: go.Layout) -> None:
    if layout.yaxis.automargin:
        layout.yaxis.update(
            ticklabelposition="inside top", ticklabelshift=-14, tickfont={"color": INK}
        )
