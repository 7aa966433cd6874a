"""The picture of a diagnosis: norms, shares, cosines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from equipoise.monitor.diagnosis_findings import Findings
from equipoise.monitor.diagnosis_verdict import clipped

if TYPE_CHECKING:
    import plotly.graph_objects as go

_COLOURS = ("#0072b2", "#e69f00")  # of Okabe & Ito's palette, told apart with any colour vision


def picture(findings: Findings, sentence: str) -> go.Figure:
    """Draws a diagnosis.

    Args:
        findings: What to draw; losses without a gradient are left out.
        sentence: The title.

    Raises:
        ImportError: If plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots
    except ImportError:
        msg = '`plot()` needs plotly: pip install "equipoise[compare]".'
        raise ImportError(msg) from None
    figure = make_subplots(
        rows=1, cols=3, subplot_titles=("gradient norms", "shares", "cosines without noise")
    )
    names = [loss.name for loss in findings.judged]
    norms = [loss.norm for loss in findings.judged]
    figure.add_trace(go.Bar(x=names, y=norms, marker_color=_COLOURS[0], showlegend=False), 1, 1)
    shares = {
        "of the gradient": [loss.share for loss in findings.judged],
        "of Adam's update": [loss.adam_share for loss in findings.judged],
    }
    for (what, values), colour in zip(shares.items(), _COLOURS, strict=True):
        figure.add_trace(go.Bar(x=names, y=values, name=what, marker_color=colour), 1, 2)
    figure.add_trace(
        go.Heatmap(
            x=names,
            y=names,
            z=_matrix(findings, names),
            zmin=-1,
            zmax=1,
            colorscale="RdBu",
            texttemplate="%{z:.2f}",
        ),
        1,
        3,
    )
    figure.update_yaxes(type="log", row=1, col=1)
    figure.update_yaxes(tickformat=".0%", row=1, col=2)
    figure.update_yaxes(autorange="reversed", row=1, col=3)
    figure.update_layout(
        template="plotly_white",
        title={"text": sentence, "font": {"size": 14}},
        height=380,
        legend={"orientation": "h", "y": -0.2},
    )
    return figure


def _matrix(findings: Findings, names: list[str]) -> list[list[float]]:
    known = {
        frozenset((pair.first, pair.second)): clipped(pair.cosine.value) for pair in findings.pairs
    }
    return [
        [1.0 if a == b else known.get(frozenset((a, b)), float("nan")) for b in names]
        for a in names
    ]
