"""What all pictures have in common: template, font, margins, colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

FONT = "system-ui, sans-serif"
_ROOM, _ALONE, _GAP, _PHONE = 210, 360, 52, 340
"""On a phone, in pixels: for one panel of several, for one alone, between two; its width."""

ROW = 38
"""Where names of rows stand inside, above what they name: in pixels, for one row."""

ROW_GAP = 0.55
"""What part of such a row is left to its name."""

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

AGREEMENT = [
    [0.0, "#b2182b"],
    [0.25, "#ef8a62"],
    [0.5, "#f2f2f2"],
    [0.75, "#67a9cf"],
    [1.0, "#2166ac"],
]
"""Colours of cosines from -1 to 1."""

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


def elided(name: str, most: int = 24) -> str:
    """A name as a picture has room for it; tables have the whole.

    Args:
        name: Of a loss, a method, a pair.
        most: How many letters.

    Example:
        >>> elided("near"), elided("reconstruction_of_the_left_half", 12)
        ('near', 'recon…t_half')
    """
    if len(name) <= most:
        return name
    return f"{name[: most // 2 - 1]}…{name[len(name) - most // 2 :]}"


def legend_room(figure: go.Figure, width: int, font_size: int) -> int:
    """How high a legend is that lies above or below a picture, in pixels.

    Args:
        figure: Its named traces are counted.
        width: In pixels.
        font_size: In pixels.
    """
    named = [trace.name or "" for trace in figure.data if trace.showlegend is not False]
    if len(named) < 2:
        return 0
    a_row = max(1, int(width / (50 + 0.58 * font_size * max(map(len, named)))))
    return round(1.5 * font_size) * math.ceil(len(named) / a_row)


def for_phones(figure: go.Figure) -> go.Layout:
    """The layout of a picture on a narrow page.

    Args:
        figure: With one panel, or with several that `plotly.subplots.make_subplots` laid out.

    Returns:
        The layout with panels one below the other, each with its title, the legend below them all,
        and the names of categories inside, above what they name.
    """
    layout = go.Layout(figure.layout)
    axes = sorted((name for name in layout if name.startswith("yaxis")), key=_number)
    named = {axis: _names(figure, axis) for axis in axes if layout[axis].automargin}
    rows_alone = all(axis in named or layout[axis].showticklabels is False for axis in axes)
    height = figure.layout.height if rows_alone else max(figure.layout.height, _ALONE)
    if len(axes) > 1:
        rooms = [_GAP + ROW * len(named[axis]) if axis in named else _ROOM for axis in axes]
        _stack(layout, axes, rooms)
        height = sum(rooms)
    for axis, names in named.items():
        name_inside(layout, axis, names)
    below = legend_room(figure, _PHONE, 12) if layout.showlegend else 0
    layout.update(
        height=max(height, below) + below,  # plotly scrolls a legend that is higher than half
        font={"size": 12},
        margin={"l": 12 if rows_alone else 52, "r": 12, "t": 28, "b": 56 + below},
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


def name_inside(layout: go.Layout, axis: str, names: Mapping[str | int, str]) -> None:
    """Puts the names of rows inside a panel, above what they name.

    Args:
        layout: Changed in place; with `ROW` pixels for each row.
        axis: Of the layout, as ``"yaxis2"``.
        names: What is written, by the place on the axis.
    """
    layout[axis].update(showticklabels=False, showgrid=False, automargin=False)
    layout.bargap = ROW_GAP
    short = axis.replace("axis", "")
    for place, name in names.items():
        layout.annotations += (
            {
                "text": name,
                "x": 0,
                "y": place,
                "xref": f"{short.replace('y', 'x')} domain",
                "yref": short,
                "xanchor": "left",
                "yanchor": "bottom",
                "yshift": ROW * (1 - ROW_GAP) / 2 - 1,
                "showarrow": False,
                "borderpad": 0,
                "font": {"size": 12},
            },
        )


def _number(axis: str) -> int:
    return int(axis.removeprefix("yaxis") or 1)


def _names(figure: go.Figure, axis: str) -> dict[str | int, str]:
    """What is written at the rows of a panel, from the top down."""
    told = figure.layout[axis]
    if told.tickvals is not None:
        return dict(zip(told.tickvals, told.ticktext, strict=True))
    drawn = [trace for trace in figure.data if (trace.yaxis or "y") == axis.replace("axis", "")]
    return {name: name for trace in drawn for name in trace.y}


def _stack(layout: go.Layout, axes: Sequence[str], rooms: Sequence[int]) -> None:
    """Panels one below the other, each with its title and ticks, the last alone says of what."""
    whole = sum(rooms)
    for place, axis in enumerate(axes):
        top, bottom = (1 - sum(rooms[:end]) / whole for end in (place, place + 1))
        layout[axis].update(
            domain=[bottom + _GAP / whole, top], title=None, showticklabels=True, matches=None
        )
        across = layout[axis.replace("y", "x")]
        across.update(domain=[0, 1], showticklabels=True)
        if place < len(axes) - 1:
            across.title = None
        if place < len(layout.annotations):
            layout.annotations[place].update(x=0, y=top, xanchor="left", yshift=6)
