"""The picture of a claim: the metric of each row over the training."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scripts.evidence.findings import Findings, Row

mpl.rcParams["svg.hashsalt"] = "equipoise"  # the same picture has the same bytes
_GREY = "#808080"  # reads on white and on black
_STYLES = ("-", "--", ":", "-.")
_COLOURS = ("#0a84c1", "#d1630c", "#1f9e59", "#c04a8c", "#8a6fd1", "#a8871d")
_SHOWN = 8


def draw(findings: Findings, path: Path) -> None:
    """Draws the first rows, and the plain sum, into an SVG without a background.

    Args:
        findings: What was found.
        path: Of the SVG.
    """
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    shown = findings.rows[:_SHOWN]
    shown += [row for row in findings.rows[_SHOWN:] if not row.against_plain]
    for place, row in enumerate(shown):
        _curve(axes, findings, row, place)
    _frame(axes, findings)
    figure.savefig(path, format="svg", metadata={"Date": None})


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
    axes.set_xlabel("step", color=_GREY)
    axes.set_ylabel(findings.metric, color=_GREY)
    axes.tick_params(colors=_GREY, which="both")
    for spine in axes.spines.values():
        spine.set_color(_GREY)
    legend = axes.legend(frameon=False, fontsize="small", labelcolor=_GREY)
    legend.set_in_layout(True)
