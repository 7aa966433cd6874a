"""The pictures of a record, as plotly figures: one colour and dash per loss in all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from equipoise.monitor.curves import Array, Curves, thinned
from equipoise.pages.picture_frame import (
    AGREEMENT,
    GREY,
    PALETTE,
    ROW,
    ROW_GAP,
    elided,
    lay_out,
    legend_room,
    line_style,
    name_inside,
)

_BINS = 60
_LEGEND = 40
"""How many letters of a loss's name."""

_SIDE = 520
"""What two runs side by side leave for the legend of each, in pixels."""


def lines(names: Sequence[str], steps: Array, rows: Array, title: str) -> go.Figure:
    """Numbers of each loss over the steps.

    Args:
        names: Of the losses.
        steps: ``[K]``.
        rows: ``[K, T]``.
        title: What the numbers are.

    Returns:
        The figure, logarithmic where all numbers are positive and far apart.
    """
    figure = go.Figure()
    steps, rows = thinned(steps, rows)
    for i, name in enumerate(names):
        figure.add_trace(
            go.Scatter(
                x=steps,
                y=_drawable(rows[:, i]),
                name=elided(name, _LEGEND),
                line={**line_style(i), "width": 2},
                mode="lines" if len(steps) > 1 else "markers",
                connectgaps=True,
                hovertemplate=f"{name}, step %{{x}}: %{{y:.4g}}<extra></extra>",
            )
        )
    finite = rows[np.isfinite(rows)]
    decades = np.log10(finite.max() / finite.min()) if finite.size and finite.min() > 0 else 0
    figure.update_yaxes(title=title, tickformat=".3~g")
    if decades > 1:
        figure.update_yaxes(type="log", dtick=_dtick(decades))
    return _laid_out(figure)


def areas(names: Sequence[str], steps: Array, shares: Array) -> go.Figure:
    """Each loss's share of the gradient over the steps, one on top of the other.

    Args:
        names: Of the losses.
        steps: ``[K]``.
        shares: ``[K, T]``, NaN where nothing was measured.
    """
    there = np.isfinite(shares).any(axis=1)
    steps, shares = thinned(steps[there], shares[there])
    figure = go.Figure()
    for i, name in enumerate(names):
        figure.add_trace(
            go.Scatter(
                x=steps,
                y=np.nan_to_num(100 * shares[:, i]).tolist(),
                name=elided(name, _LEGEND),
                stackgroup="shares",
                line={**line_style(i), "width": 2},
                hovertemplate=f"{name}, step %{{x}}: %{{y:.0f}} %<extra></extra>",
            )
        )
    figure.update_yaxes(title="share, %", range=[0, 100])
    return _laid_out(figure)


def heat_map(curves: Curves) -> go.Figure:
    """The cosine between the gradients of each pair of losses over the steps.

    Args:
        curves: With at least one measured step.
    """
    there = curves.measured
    steps, cosines = thinned(curves.steps[there], curves.cosines[there], 200)
    rows = list(range(len(curves.pairs)))
    figure = go.Figure(
        go.Heatmap(
            x=steps,
            y=rows,
            z=[_drawable(row) for row in cosines.T],
            zmin=-1,
            zmax=1,
            colorscale=AGREEMENT,
            showscale=False,
            ygap=ROW * ROW_GAP,
            customdata=[[pair] * len(steps) for pair in curves.pairs],
            hovertemplate="%{customdata}, step %{x}: %{z:.2f}<extra></extra>",
        )
    )
    names = [" : ".join(elided(name, 22) for name in pair.split(":", 1)) for pair in curves.pairs]
    figure.update_yaxes(autorange="reversed")
    name_inside(figure.layout, "yaxis", dict(zip(rows, names, strict=True)))
    _laid_out(figure)
    figure.update_xaxes(zeroline=False)
    margin = {"l": 12, "r": 12, "t": 28, "b": 56}
    return figure.update_layout(height=84 + ROW * len(rows), margin=margin)


def conflict_bars(curves: Curves) -> go.Figure:
    """Of a hundred comparisons of two gradients, how many found them in conflict.

    Args:
        curves: With at least one measured step.
    """
    there = curves.measured
    rates = np.nanmean(curves.conflicts[there], axis=1, keepdims=True)
    steps, rates = thinned(curves.steps[there], 100 * rates, _BINS)
    bars = go.Bar(
        x=steps,
        y=rates[:, 0].tolist(),
        marker={"color": PALETTE[1]},
        hovertemplate="from step %{x}: %{y:.0f} of 100<extra></extra>",
    )
    figure = go.Figure(bars)
    figure.update_yaxes(title="conflicts per 100", range=[0, 100])
    return _laid_out(figure, 260)


def steps_up(names: Sequence[str], steps: Array, skipped: Array) -> go.Figure:
    """How many steps were skipped so far, for each loss.

    Args:
        names: Of the losses.
        steps: ``[K]``.
        skipped: ``[K, T]``.
    """
    figure = lines(names, steps, skipped, "skipped so far")
    figure.update_traces(line_shape="hv")
    figure.update_yaxes(type="linear", rangemode="tozero", dtick=None)
    return figure


def alike(figures: Sequence[go.Figure]) -> None:
    """Gives the pictures of several runs one scale, so that they can be compared.

    Args:
        figures: Of the same numbers, of different runs; changed in place.
    """
    drawn = [trace.y for figure in figures for trace in figure.data if trace.type == "scatter"]
    numbers = np.array([y for of_trace in drawn for y in of_trace if y is not None], dtype=float)
    if len(figures) < 2 or not numbers.size or figures[0].layout.yaxis.range is not None:
        return
    low, high = float(numbers.min()), float(numbers.max())
    logarithmic = low > 0 and any(figure.layout.yaxis.type == "log" for figure in figures)
    if logarithmic:
        low, high = float(np.log10(low)), float(np.log10(high))
    room = 0.05 * (high - low) or 0.5
    for figure in figures:
        figure.update_yaxes(
            type="log" if logarithmic else "linear",
            dtick=_dtick(high - low) if logarithmic else None,
            range=[low - room, high + room],
        )


def _dtick(decades: float) -> str | int:
    """Ticks of a logarithmic axis: at 1, 2, 5 as long as there is room for them."""
    return "D2" if decades < 3 else math.ceil(decades / 6)


def _laid_out(figure: go.Figure, height: int = 340) -> go.Figure:
    above = legend_room(figure, _SIDE, 14)
    lay_out(figure, max(height, above) + above)
    figure.update_layout(
        margin={"l": 60, "r": 12, "t": 16 + above, "b": 48},
        showlegend=len(figure.data) > 1,
        legend={"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        bargap=0.05,
    )
    figure.update_xaxes(title="training step", zerolinecolor=GREY)
    return figure


def _drawable(numbers: Array) -> list[float | None]:
    return [float(number) if np.isfinite(number) else None for number in numbers]
