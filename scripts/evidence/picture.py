"""The picture of a claim: the metric of each row over the training."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scripts.evidence.findings import Findings, Row

mpl.rcParams["svg.hashsalt"] = "equipoise"  # the same picture has the same bytes
_INK = "#808080"  # what stands for the ink in what matplotlib draws; no curve has this colour
_PAPERS = (
    "<style>:root { --ink: #57606a } "
    "@media (prefers-color-scheme: dark) { :root { --ink: #9198a1 } }</style>"
)
"""No one grey is read well on a light page and on a dark one."""
_STYLES = ("-", "--", ":", "-.")
_COLOURS = ("#0a84c1", "#d1630c", "#1f9e59", "#c04a8c", "#8a6fd1", "#a8871d")
_SHOWN = 8


def draw(findings: Findings, path: Path) -> None:
    """Draws the first rows, and the plain sum, into an SVG without a background.

    Args:
        findings: What was found.
        path: Of the SVG.
    """
    shown = findings.rows[:_SHOWN]
    shown += [row for row in findings.rows[_SHOWN:] if not row.against_plain]
    # So narrow that a phone shows its letters large enough, with the names below the curves.
    figure = Figure(figsize=(5, 3.4 + 0.2 * len(shown)), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    for place, row in enumerate(shown):
        _curve(axes, findings, row, place)
    _frame(axes, findings)
    legend = figure.legend(loc="outside lower left", frameon=False, fontsize="small")
    for name in legend.get_texts():
        name.set_color(_INK)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    path.write_text(_on_both_papers(drawn.getvalue()), encoding="utf-8")


def _on_both_papers(svg: str) -> str:
    """The picture in the ink of the page that shows it."""
    return svg.replace(_INK, "var(--ink)").replace(" <defs>", f" {_PAPERS}\n <defs>", 1)


def _curve(axes: Axes, findings: Findings, row: Row, place: int) -> None:
    means = np.array([np.nan if mean is None else mean for mean in row.means])
    widths = np.array(row.half_widths)
    colour, style = _COLOURS[place % len(_COLOURS)], _STYLES[place % len(_STYLES)]
    steps = findings.steps[: len(means)]
    axes.plot(steps, means, color=colour, linestyle=style, linewidth=1.6, label=_legend(row))
    axes.fill_between(steps, means - widths, means + widths, color=colour, alpha=0.15, linewidth=0)


def _legend(row: Row) -> str:
    """The curve is that of the runs that did not fail, and says so."""
    return f"{row.label} ({row.failures})" if row.failures else row.label


def _frame(axes: Axes, findings: Findings) -> None:
    ends = [mean for row in findings.rows for mean in row.means if mean is not None]
    if ends and min(ends) > 0 and max(ends) > 100 * min(ends):
        axes.set_yscale("log")
    axes.set_xlabel("step", color=_INK)
    axes.set_ylabel(findings.metric, color=_INK)
    axes.tick_params(colors=_INK, which="both")
    for spine in axes.spines.values():
        spine.set_color(_INK)
