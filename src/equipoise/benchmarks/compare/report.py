"""`report.html`: everything a comparison found, on one page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from math import isnan
from pathlib import Path
from string import Template

import plotly.graph_objects as go

from equipoise.benchmarks.compare.explained import explained, provenance
from equipoise.benchmarks.compare.outline import kept_plan, outline
from equipoise.benchmarks.compare.paired import ranks
from equipoise.benchmarks.compare.pictures import (
    losses_picture,
    metric_picture,
    ranking_picture,
    tasks_picture,
    weights_picture,
)
from equipoise.benchmarks.compare.plan import Plan
from equipoise.benchmarks.compare.reading import read_standings
from equipoise.benchmarks.compare.run import Experiment
from equipoise.benchmarks.compare.sentences import headline, protocol, verdict
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.compare.table import RankingColumn, detail_columns, ranking_columns
from equipoise.benchmarks.compare.tradeoff import tradeoff_picture
from equipoise.benchmarks.diagnose.kept import read_diagnosis
from equipoise.benchmarks.diagnose.outcome import outcome
from equipoise.benchmarks.refusal import RequestError
from equipoise.monitor.diagnosis_summary import Summary
from equipoise.pages.files import write_atomically
from equipoise.pages.page_frame import embed, render_page
from equipoise.pages.picture_frame import for_phones

REPORT_NAME = "report.html"


def write_report(folder: Path, rows: Sequence[Standing] | None = None) -> Path:
    """Writes the page.

    Args:
        folder: A comparison's folder.
        rows: What it shows; by default what the folder was last used for.

    Returns:
        Where the page is.

    Raises:
        RequestError: If there is nothing to report, or the page cannot be written. A page that was
            there before stays then.
    """
    rows = read_standings(folder) if rows is None else rows
    plan = kept_plan(folder)
    html = render(
        rows,
        read_diagnosis(folder, _experiment(rows, plan)),
        None if plan is None else plan.goal,
    )
    page = folder / REPORT_NAME
    try:
        write_atomically(page, html)
    except OSError as error:
        raise RequestError(f"{page} cannot be written: {error.strerror}.") from error
    return page


def _experiment(rows: Sequence[Standing], plan: Plan | None) -> Experiment:
    """What was diagnosed: the options as they were asked for, before anything was chosen."""
    experiment = rows[0].runs[0].experiment
    return experiment if plan is None else replace(experiment, options=outline(plan).options)


def render(
    rows: Sequence[Standing], diagnosis: Summary | None = None, goal: float | None = None
) -> str:
    """The page.

    Args:
        rows: Best first, at least one.
        diagnosis: Of the problem, before it was trained.
        goal: A value of the metric, for a column on how often it was reached.

    Returns:
        HTML with the pictures, plotly.js and the styles in it.
    """
    problem = rows[0].runs[0].problem
    title = f"{problem.name}: comparison of loss balancers"
    body = (
        files("equipoise.benchmarks.compare")
        .joinpath("report_body.html")
        .read_text(encoding="utf-8")
    )
    names, columns = rows[0].final_weights, [*ranking_columns(rows), *detail_columns(rows, goal)]
    filled = Template(body).substitute(
        title=escape(title),
        headline=escape(headline(rows)),
        description=escape(problem.description),
        protocol=escape(protocol(rows)),
        diagnosis="" if diagnosis is None else _diagnosed(diagnosis, rows),
        metric=escape(problem.metric),
        verdict=escape(verdict(rows)),
        ranking_heads="".join(_head(column) for column in columns),
        ranking_rows="\n".join(
            _ranking_row(rank, row, columns) for rank, row in zip(ranks(rows), rows, strict=True)
        ),
        tasks=_optional(tasks_picture(rows), "tasks", _TASKS),
        tradeoff=_optional(tradeoff_picture(rows), "tradeoff", _TRADEOFF),
        weight_heads="".join(f'<th scope="col">{escape(name)}</th>' for name in names),
        weight_rows="\n".join(_weight_row(row) for row in rows),
        explained=explained(rows),
        provenance=provenance(rows),
        ranking_picture=_drawn(ranking_picture(rows), "ranking"),
        metric_picture=_drawn(metric_picture(rows), "metric"),
        losses_picture=_drawn(losses_picture(rows), "losses"),
        weights_picture=_drawn(weights_picture(rows), "weights"),
    )
    return render_page(title, filled)


def _drawn(figure: go.Figure, name: str) -> str:
    return embed(figure, name, on_phone=for_phones(figure))


def _diagnosed(diagnosis: Summary, rows: Sequence[Standing]) -> str:
    came_true = f"<p>{escape(outcome(diagnosis, rows))}</p>"
    return f"\n<h2>The diagnosis before training</h2>\n{came_true}\n{diagnosis.as_html()}\n"


def _head(column: RankingColumn) -> str:
    return f'<th scope="col">{escape(column.head).replace(chr(10), "<br>")}</th>'


def _ranking_row(rank: str, row: Standing, columns: Sequence[RankingColumn]) -> str:
    cells = (column.cells.get(row.balancer, "") for column in columns)
    numbers = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><td>{rank}</td><th scope="row">{escape(row.title)}</th>{numbers}</tr>'


_TASKS = ("Each metric", "Mean over the seeds, on test data.")
_TRADEOFF = (
    "Between two tasks",
    "Where methods end, with intervals; beyond the curve of fixed weights one is worth its price.",
)


def _optional(figure: go.Figure | None, name: str, words: tuple[str, str]) -> str:
    """A part of the page that not every problem gives rise to."""
    if figure is None:
        return ""
    title, text = words
    opening = f'<figure class="fits" tabindex="0" role="group" aria-label="{title}">'
    return f"\n<h2>{title}</h2>\n<p>{text}</p>\n{opening}{_drawn(figure, name)}</figure>\n"


def _weight_row(row: Standing) -> str:
    weights = row.final_weights.values()
    numbers = "".join(f"<td>{'' if isnan(weight) else f'{weight:.3g}'}</td>" for weight in weights)
    return f'<tr><th scope="row">{escape(row.title)}</th>{numbers}</tr>'
