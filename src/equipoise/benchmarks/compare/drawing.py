"""What the pictures of a report are drawn with: one style per method in all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from equipoise.benchmarks.compare.run import Number, Run
from equipoise.benchmarks.compare.statistics import Curve, Standing, mean_curve
from equipoise.benchmarks.methods import PLAIN_SUM, RIGHT
from equipoise.pages.picture_frame import GREY, lay_out, line_style

_PANEL_HEIGHT = 250
_WIDTH = 900
"""What a wide page leaves for all panels of a row, in pixels."""

Curves: TypeAlias = Mapping[str, Sequence[Number]]
"""``[K]`` values by the name of what they are of."""


@dataclass(frozen=True)
class Style:
    """How a method is drawn.

    Args:
        colour: ``#rrggbb``.
        dash: plotly's name of the line's dash.
    """

    colour: str
    dash: str = "solid"

    def faint(self) -> str:
        """The colour for a confidence band."""
        red, green, blue = (int(self.colour[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red},{green},{blue},0.13)"


_REFERENCES: Mapping[str, Style] = {
    PLAIN_SUM: Style(GREY, "dash"),
    RIGHT: Style("#111111", "5px,2px,1px,2px"),
}


def styles(standings: Sequence[Standing]) -> dict[str, Style]:
    """A style for each method, by label; the reference rows are grey and black.

    Args:
        standings: All rows of the report. Their labels decide, so that the ranking may change and
            the colours stay.

    Returns:
        The styles.
    """
    chosen = dict(_REFERENCES)
    others = sorted(row.balancer for row in standings if row.balancer not in _REFERENCES)
    for index, label in enumerate(others):
        drawn = line_style(index)
        chosen[label] = Style(drawn["color"], drawn["dash"])
    return chosen


@dataclass(frozen=True)
class Panels:
    """What is drawn in panels, one for each name, with one line for each method.

    Args:
        names: Of the panels.
        curves: What of a run is drawn.
        steps: At which steps it was recorded.
        title: Of the vertical axes.
        scale: Of the vertical axes.
    """

    names: Sequence[str]
    curves: Callable[[Run], Curves]
    steps: Callable[[Run], list[int]]
    title: str
    scale: Literal["log", "linear"] = "log"


def panels(standings: Sequence[Standing], wanted: Panels) -> go.Figure:
    """Means over the seeds, panel by panel.

    Args:
        standings: Best first; the legend keeps their order.
        wanted: What is drawn.

    Returns:
        The figure.
    """
    drawn = styles(standings)
    fitting = max(1, _WIDTH // (7 * max(map(len, wanted.names)) + 24))
    columns = min(len(wanted.names), 5 if len(wanted.names) > 6 else 3, fitting)
    rows = math.ceil(len(wanted.names) / columns)
    figure = _empty_panels(wanted, rows, columns)
    for rank, row in worst_first(standings):
        chosen = [wanted.curves(run) for run in row.runs]
        for index, name in enumerate(wanted.names):
            curve = mean_curve(wanted.steps(row.runs[0]), [run[name] for run in chosen])
            trace = line(row, curve, drawn[row.balancer], rank)
            trace.update(showlegend=index == 0, connectgaps=True, line={"width": 1.5})
            figure.add_trace(trace, row=index // columns + 1, col=index % columns + 1)
    with_legend(figure, height=110 + _PANEL_HEIGHT * rows)
    figure.update_annotations(font_size=12)
    figure.update_yaxes(type=wanted.scale, tickformat=".3~g", tickfont={"size": 11})
    figure.update_xaxes(title="training step", row=rows)
    figure.update_yaxes(title=wanted.title, col=1)
    return figure


def _empty_panels(wanted: Panels, rows: int, columns: int) -> go.Figure:
    return make_subplots(
        rows,
        columns,
        subplot_titles=list(wanted.names),
        shared_xaxes=True,
        horizontal_spacing=0.2 / columns,
        vertical_spacing=0.2 / rows,
    )


def worst_first(standings: Sequence[Standing]) -> list[tuple[int, Standing]]:
    """Places and rows in the order of drawing, so that the best lines lie on top."""
    return list(enumerate(standings, start=1))[::-1]


def line(row: Standing, curve: Curve, style: Style, rank: int) -> go.Scatter:
    """A method's mean."""
    return go.Scatter(
        x=curve.steps,
        y=curve.means,
        mode="lines",
        line={"color": style.colour, "dash": style.dash, "width": 2},
        name=row.legend,
        legendgroup=row.balancer,
        legendrank=rank,
        hovertemplate=f"{row.title}, step %{{x}}: %{{y:.3g}}<extra></extra>",
    )


def band(row: Standing, curve: Curve, style: Style) -> go.Scatter:
    """The interval around it."""
    upper, lower = curve.means + curve.half_widths, curve.means - curve.half_widths
    return go.Scatter(
        x=[*curve.steps, *reversed(curve.steps)],
        y=[*upper, *reversed(lower)],
        fill="toself",
        fillcolor=style.faint(),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        legendgroup=row.balancer,
        showlegend=False,
    )


def metric_title(row: Standing) -> str:
    """The title of an axis that shows the metric."""
    problem = row.runs[0].problem
    better = "higher" if problem.higher_is_better else "lower"
    return f"{problem.metric} ({better} is better)"


def with_legend(figure: go.Figure, height: int) -> None:
    """Lays out a figure that names its lines."""
    entries = sum(trace.showlegend is not False for trace in figure.data)
    lay_out(figure, max(height, 80 + 22 * entries))
    legend = {"x": 1.01, "y": 1, "xanchor": "left", "yanchor": "top", "tracegroupgap": 0}
    figure.update_layout(showlegend=True, legend=legend)
