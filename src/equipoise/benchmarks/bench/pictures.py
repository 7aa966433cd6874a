"""The pictures of a benchmark, as plotly figures: time and memory, and how time grows with T."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from equipoise.benchmarks.bench.table import title
from equipoise.pages.picture_frame import GREY, PALETTE, lay_out, line_style

if TYPE_CHECKING:
    from equipoise.benchmarks.bench.prices import Price

_COLOURS: Mapping[str, str] = MappingProxyType(
    {"method": PALETTE[0], "peer": PALETTE[1], "reference": GREY}
)
_NAMES: Mapping[str, str] = MappingProxyType(
    {"method": "equipoise", "peer": "other libraries", "reference": "references"}
)

_TICKS = (0.8, 1, 1.5, 2, 3, 5, 8, 12, 20, 30, 50, 80)


def price_picture(prices: Sequence[Price]) -> go.Figure:
    """Time with its quartiles and peak memory of each row, cheapest on top.

    Args:
        prices: Of one model and number of losses.

    Returns:
        The figure.
    """
    titles = ("time per step / plain sum", "peak memory / parameters")
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=titles)
    ordered = sorted(prices, key=lambda price: price.ratio)
    for kind, colour in _COLOURS.items():
        rows = [price for price in ordered if price.kind == kind]
        if rows:
            figure.add_trace(_times(rows, colour), row=1, col=1)
            figure.add_trace(_memory(rows, colour), row=1, col=2)
    lay_out(figure, height=140 + 26 * len(prices), font_size=13)
    figure.update_layout(showlegend=True)
    figure.update_yaxes(
        autorange="reversed",
        automargin=True,
        categoryorder="array",
        categoryarray=[title(price) for price in ordered],
    )
    figure.update_xaxes(type="log", tickvals=_TICKS, col=1)
    figure.update_xaxes(rangemode="tozero", col=2)
    return figure


def growth_picture(prices: Sequence[Price]) -> go.Figure:
    """Time over the number of losses, one line per row.

    Args:
        prices: Of one model.

    Returns:
        The figure.
    """
    figure = go.Figure()
    for place, label in enumerate(dict.fromkeys(price.label for price in prices)):
        rows = [price for price in prices if price.label == label]
        figure.add_trace(
            go.Scatter(
                x=[price.losses for price in rows],
                y=[price.ratio for price in rows],
                mode="lines+markers",
                name=label,
                line=line_style(place),
                marker={"symbol": "circle" if rows[0].kind == "method" else "square-open"},
                hovertemplate=f"{label}, T = %{{x}}: %{{y:.2f}}<extra></extra>",
            )
        )
    lay_out(figure, height=560, font_size=13)
    figure.update_layout(showlegend=True)
    counts = sorted({price.losses for price in prices})
    figure.update_xaxes(title="losses, T", type="log", tickvals=counts, ticktext=counts)
    figure.update_yaxes(title="time per step / plain sum", type="log")
    return figure


def _times(rows: Sequence[Price], colour: str) -> go.Scatter:
    return go.Scatter(
        x=[price.ratio for price in rows],
        y=[title(price) for price in rows],
        error_x={
            "array": [price.high - price.ratio for price in rows],
            "arrayminus": [price.ratio - price.low for price in rows],
        },
        mode="markers",
        marker={"color": colour, "size": 9},
        name=_NAMES[rows[0].kind],
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )


def _memory(rows: Sequence[Price], colour: str) -> go.Bar:
    return go.Bar(
        x=[price.memory for price in rows],
        y=[title(price) for price in rows],
        orientation="h",
        marker={"color": colour},
        showlegend=False,
        hovertemplate="%{y}: %{x:.1f}<extra></extra>",
    )
