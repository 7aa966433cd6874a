"""The pictures of a report, as plotly figures: one colour per method in all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from equipoise.benchmarks.compare.run import Number, Run
from equipoise.benchmarks.compare.statistics import Curve, Standing, mean_curve
from equipoise.benchmarks.methods import PLAIN_SUM, RIGHT
from equipoise.pages.picture_frame import GREY, lay_out, line_style

_PANEL_HEIGHT = 250
_WIDTH = 900
"""What a wide page leaves for all panels of a row, in pixels."""

Trajectories: TypeAlias = Mapping[str, Sequence[Number]]


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
        line = line_style(index)
        chosen[label] = Style(line["color"], line["dash"])
    return chosen


def ranking_picture(standings: Sequence[Standing]) -> go.Figure:
    """Final metric of each method with its interval, best on top.

    Args:
        standings: Best first.

    Returns:
        The figure.
    """
    drawn, figure = styles(standings), go.Figure()
    for row in standings:
        colour = drawn[row.balancer].colour
        figure.add_trace(
            go.Scatter(
                x=[row.metric.mean],
                y=[row.legend],
                error_x={"array": [row.metric.half_width or 0.0], "thickness": 2.5, "width": 6},
                mode="markers+text",
                text=[f"{row.metric.mean:.3f}" if row.metric.count else ""],
                textposition="top center",
                marker={"color": colour, "size": 13},
                name=row.legend,
                hovertemplate=f"{row.title}: {row.result}<extra></extra>",
            )
        )
    lay_out(figure, height=110 + 46 * len(standings))
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title=_metric_title(standings[0]))
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
    return figure


def metric_picture(standings: Sequence[Standing]) -> go.Figure:
    """The metric of each method during training, mean and 95 % band over the seeds.

    Args:
        standings: Best first; the legend keeps their order.

    Returns:
        The figure.
    """
    drawn, figure = styles(standings), go.Figure()
    for rank, row in _worst_first(standings):
        curve = mean_curve(row.runs[0].metric_steps, [run.metric_curve for run in row.runs])
        figure.add_trace(_band(row, curve, drawn[row.balancer]))
        figure.add_trace(_line(row, curve, drawn[row.balancer], rank))
    _with_legend(figure, height=460)
    figure.update_xaxes(title="training step", rangemode="tozero")
    figure.update_yaxes(title=_metric_title(standings[0]))
    return figure


def losses_picture(standings: Sequence[Standing]) -> go.Figure:
    """Each loss during training, one panel per loss, one line per method.

    Args:
        standings: Best first.

    Returns:
        The figure.
    """
    return _panels(standings, lambda run: run.trajectory.losses, "loss")


def weights_picture(standings: Sequence[Standing]) -> go.Figure:
    """Each weight during training as a share of all weights, one panel per loss.

    Args:
        standings: Best first.

    Returns:
        The figure. Shares make methods comparable whose weights are of different scale; Adam does
        not feel a common scale.
    """
    figure = _panels(
        standings, lambda run: weight_shares(run.trajectory.weights), "share of weights"
    )
    drawn = np.concatenate([trace.y for trace in figure.data])
    # A method that all but switches a loss off for a step would squeeze everything else.
    low = np.nanpercentile(drawn, 10) / 3 if np.isfinite(drawn).any() else 1e-3
    low = max(low, 1e-12)  # a share of nothing has no place on a logarithmic axis
    figure.update_yaxes(range=[float(np.log10(low)), 0.1], dtick=1, showticklabels=False)
    figure.update_yaxes(showticklabels=True, col=1)
    return figure


def weight_shares(weights: Trajectories) -> dict[str, list[Number]]:
    """Each weight divided by the sum of all weights of its step.

    Args:
        weights: ``[K]`` weights for each loss.

    Returns:
        ``[K]`` shares for each loss, ``None`` where a weight is absent or not positive.

    Example:
        >>> weight_shares({"a": [1.0, 3.0], "b": [1.0, None]})
        {'a': [0.5, 1.0], 'b': [0.5, None]}
    """
    steps = zip(*weights.values(), strict=True)
    totals = [sum(weight for weight in step if weight is not None and weight > 0) for step in steps]
    return {
        name: [
            weight / total if weight is not None and weight > 0 else None
            for weight, total in zip(values, totals, strict=True)
        ]
        for name, values in weights.items()
    }


def _panels(
    standings: Sequence[Standing], choose: Callable[[Run], Trajectories], title: str
) -> go.Figure:
    names, drawn = list(standings[0].final_weights), styles(standings)
    fitting = max(1, _WIDTH // (7 * max(map(len, names)) + 24))
    columns = min(len(names), 5 if len(names) > 6 else 3, fitting)
    rows = math.ceil(len(names) / columns)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=names,
        shared_xaxes=True,
        horizontal_spacing=0.2 / columns,
        vertical_spacing=0.2 / rows,
    )
    for rank, standing in _worst_first(standings):
        chosen = [choose(run) for run in standing.runs]
        for index, name in enumerate(names):
            curve = mean_curve(standing.runs[0].trajectory.steps, [run[name] for run in chosen])
            trace = _line(standing, curve, drawn[standing.balancer], rank)
            trace.update(showlegend=index == 0, connectgaps=True, line={"width": 1.5})
            figure.add_trace(trace, row=index // columns + 1, col=index % columns + 1)
    _with_legend(figure, height=110 + _PANEL_HEIGHT * rows)
    figure.update_annotations(font_size=12)
    figure.update_yaxes(type="log", tickformat=".3~g", tickfont={"size": 11})
    figure.update_xaxes(title="training step", row=rows)
    figure.update_yaxes(title=title, col=1)
    return figure


def _worst_first(standings: Sequence[Standing]) -> list[tuple[int, Standing]]:
    """Ranks and rows in the order of drawing, so that the best lines lie on top."""
    return list(enumerate(standings, start=1))[::-1]


def _line(row: Standing, curve: Curve, style: Style, rank: int) -> go.Scatter:
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


def _band(row: Standing, curve: Curve, style: Style) -> go.Scatter:
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


def _metric_title(row: Standing) -> str:
    problem = row.runs[0].problem
    better = "higher" if problem.higher_is_better else "lower"
    return f"{problem.metric} ({better} is better)"


def _with_legend(figure: go.Figure, height: int) -> None:
    entries = sum(trace.showlegend is not False for trace in figure.data)
    lay_out(figure, max(height, 80 + 22 * entries))
    legend = {"x": 1.01, "y": 1, "xanchor": "left", "yanchor": "top", "tracegroupgap": 0}
    figure.update_layout(showlegend=True, legend=legend)
