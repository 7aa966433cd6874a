"""The picture of a diagnosis: norms, shares, cosines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from equipoise.monitor.diagnosis_findings import Findings
from equipoise.monitor.diagnosis_verdict import clipped

if TYPE_CHECKING:
    import plotly.graph_objects as go

_PANELS = ("gradient norm", "share", "Adam's share", "cosines without noise")
_NUMBERS = 12
"""So many losses leave room for numbers in the cells of their cosines."""


def picture(findings: Findings, sentence: str) -> go.Figure:
    """Draws a diagnosis.

    Args:
        findings: What to draw; losses without a gradient are left out.
        sentence: The title.

    Raises:
        ImportError: If plotly is not installed.
    """
    try:
        import plotly.graph_objects  # noqa: F401 (what is missing where plotly is)
        from plotly.subplots import make_subplots

        from equipoise.pages.picture_frame import ROW, ROW_GAP, elided, lay_out
    except ImportError:
        msg = '`plot()` needs plotly: pip install "equipoise[compare]".'
        raise ImportError(msg) from None
    figure = make_subplots(
        rows=1,
        cols=4,
        shared_yaxes=True,
        column_widths=[0.2, 0.2, 0.2, 0.4],
        horizontal_spacing=0.03,
        subplot_titles=_PANELS,
    )
    names = [loss.name for loss in findings.judged]
    for place, trace in enumerate(_traces(findings, names), start=1):
        figure.add_trace(trace, 1, place)
    lay_out(figure, 150 + ROW * max(len(names), 3), font_size=13)
    figure.update_layout(
        title={"text": sentence, "font": {"size": 14}}, bargap=ROW_GAP, showlegend=False
    )
    figure.update_annotations(font_size=13)
    figure.update_yaxes(
        autorange="reversed",
        automargin=True,
        tickvals=names,
        ticktext=[elided(name) for name in names],
    )
    figure.update_xaxes(type="log", nticks=4, col=1)
    figure.update_xaxes(tickformat=".0%", nticks=4, rangemode="tozero", col=2)
    figure.update_xaxes(tickformat=".0%", nticks=4, rangemode="tozero", col=3)
    short = [elided(name, 14) for name in names]
    figure.update_xaxes(automargin=True, tickvals=names, ticktext=short, col=4)
    return figure


def _traces(findings: Findings, names: list[str]) -> Iterator[dict[str, object]]:
    """One for each panel, the losses from the top down."""
    from equipoise.pages.picture_frame import AGREEMENT, PALETTE, ROW, ROW_GAP

    bars = (
        ([loss.norm for loss in findings.judged], ":.3g", PALETTE[0]),
        ([loss.share for loss in findings.judged], ":.1%", PALETTE[1]),
        ([loss.adam_share for loss in findings.judged], ":.1%", PALETTE[2]),
    )
    for numbers, form, colour in bars:
        yield {
            "type": "bar",
            "orientation": "h",
            "x": numbers,
            "y": names,
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}}: %{{x{form}}}<extra></extra>",
        }
    yield {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": _matrix(findings, names),
        "zmin": -1,
        "zmax": 1,
        "colorscale": AGREEMENT,
        "showscale": False,
        "ygap": ROW * ROW_GAP,
        "texttemplate": "%{z:.2f}" if len(names) <= _NUMBERS else "",
        "hovertemplate": "%{y}, %{x}: %{z:.2f}<extra></extra>",
    }


def _matrix(findings: Findings, names: list[str]) -> list[list[float]]:
    known = {
        frozenset((pair.first, pair.second)): clipped(pair.cosine.value) for pair in findings.pairs
    }
    return [
        [1.0 if a == b else known.get(frozenset((a, b)), float("nan")) for b in names]
        for a in names
    ]
