"""The pictures of a report, as plotly figures: one colour per method in all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from equipoise.benchmarks.compare.drawing import (
    Curves,
    Panels,
    band,
    line,
    metric_title,
    panels,
    styles,
    with_legend,
    worst_first,
)
from equipoise.benchmarks.compare.run import Number
from equipoise.benchmarks.compare.statistics import Standing, mean_curve
from equipoise.pages.picture_frame import lay_out


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
                textposition="bottom center",
                marker={"color": colour, "size": 13},
                name=row.legend,
                hovertemplate=f"{row.title}: {row.result}<extra></extra>",
            )
        )
    lay_out(figure, height=110 + 46 * len(standings))
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title=metric_title(standings[0]))
    figure.update_yaxes(range=[len(standings) - 0.5, -0.5], automargin=True, showgrid=False)
    return figure


def metric_picture(standings: Sequence[Standing]) -> go.Figure:
    """The metric of each method during training, mean and 95 % band over the seeds.

    Args:
        standings: Best first; the legend keeps their order.

    Returns:
        The figure.
    """
    drawn, figure = styles(standings), go.Figure()
    for rank, row in worst_first(standings):
        curve = mean_curve(row.runs[0].metric_steps, [run.metric_curve for run in row.runs])
        figure.add_trace(band(row, curve, drawn[row.balancer]))
        figure.add_trace(line(row, curve, drawn[row.balancer], rank))
    with_legend(figure, height=460)
    figure.update_xaxes(title="training step", rangemode="tozero")
    figure.update_yaxes(title=metric_title(standings[0]))
    return figure


def losses_picture(standings: Sequence[Standing]) -> go.Figure:
    """Each loss during training, one panel per loss, one line per method.

    Args:
        standings: Best first.

    Returns:
        The figure.
    """
    names = list(standings[0].final_weights)
    wanted = Panels(
        names, lambda run: run.trajectory.losses, lambda run: run.trajectory.steps, "loss"
    )
    return panels(standings, wanted)


def tasks_picture(standings: Sequence[Standing]) -> go.Figure | None:
    """Each of a problem's metrics during training, one panel per metric, one line per method.

    Args:
        standings: Best first.

    Returns:
        The figure; ``None`` where the problem measures one metric only.
    """
    facts = standings[0].runs[0].problem
    names = [metric.name for metric in facts.metrics]
    if len(names) < 2:
        return None
    wanted = Panels(names, lambda run: run.metrics, lambda run: run.metric_steps, "", "linear")
    return panels(standings, wanted)


def weights_picture(standings: Sequence[Standing]) -> go.Figure:
    """Each weight during training as a share of all weights, one panel per loss.

    Args:
        standings: Best first.

    Returns:
        The figure. Shares make methods comparable whose weights are of different scale; Adam does
        not feel a common scale.
    """
    wanted = Panels(
        list(standings[0].final_weights),
        lambda run: weight_shares(run.trajectory.weights),
        lambda run: run.trajectory.steps,
        "share of weights",
    )
    figure = panels(standings, wanted)
    drawn = np.concatenate([trace.y for trace in figure.data])
    # A method that all but switches a loss off for a step would squeeze everything else.
    low = np.nanpercentile(drawn, 10) / 3 if np.isfinite(drawn).any() else 1e-3
    low = max(low, 1e-12)  # a share of nothing has no place on a logarithmic axis
    figure.update_yaxes(range=[float(np.log10(low)), 0.1], dtick=1, showticklabels=False)
    figure.update_yaxes(showticklabels=True, col=1)
    return figure


def weight_shares(weights: Curves) -> dict[str, list[Number]]:
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
