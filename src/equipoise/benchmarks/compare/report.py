"""`report.html`: everything a comparison found, on one page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from math import isnan
from pathlib import Path
from string import Template

from equipoise.benchmarks.compare.console import format_time
from equipoise.benchmarks.compare.pictures import (
    losses_picture,
    metric_picture,
    ranking_picture,
    weights_picture,
)
from equipoise.benchmarks.compare.results import FILE_NAME, Results
from equipoise.benchmarks.compare.statistics import Standing, standings
from equipoise.benchmarks.compare.step_times import read_timing
from equipoise.benchmarks.files import write_atomically
from equipoise.benchmarks.methods import PLAIN_SUM, RIGHT
from equipoise.benchmarks.page_frame import embed, render_page
from equipoise.benchmarks.refusal import RequestError

REPORT_NAME = "report.html"


def read_standings(folder: Path) -> list[Standing]:
    """The ranking of the comparison that a folder was last used for.

    Args:
        folder: Holds `results.jsonl`. Runs of other problems or options than its last line are
            kept there, and left out here.

    Returns:
        One row for each method, best first.

    Raises:
        RequestError: If the folder has no finished run, or its results cannot be read.
    """
    runs = Results(folder).read()
    if not runs:
        raise RequestError(
            f"{folder / FILE_NAME} holds no finished run; run equipoise compare first."
        )
    problem, options = runs[-1].problem.name, runs[-1].options
    chosen = [run for run in runs if (run.problem.name, run.options) == (problem, options)]
    return standings(chosen, read_timing(folder, problem, options))


def write_report(folder: Path) -> Path:
    """Writes the page from what the folder holds.

    Args:
        folder: A comparison's folder.

    Returns:
        Where the page is.

    Raises:
        RequestError: If there is nothing to report.
    """
    rows = read_standings(folder)
    page = folder / REPORT_NAME
    write_atomically(page, render(rows))
    return page


def render(rows: Sequence[Standing]) -> str:
    """The page.

    Args:
        rows: Best first, at least one.

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
    names = rows[0].final_weights
    filled = Template(body).substitute(
        title=escape(title),
        headline=escape(headline(rows)),
        description=escape(problem.description),
        protocol=escape(protocol(rows)),
        metric=escape(problem.metric),
        ranking_rows="\n".join(_ranking_row(rank, row) for rank, row in enumerate(rows, start=1)),
        weight_heads="".join(f'<th scope="col">{escape(name)}</th>' for name in names),
        weight_rows="\n".join(_weight_row(row) for row in rows),
        ranking_picture=embed(ranking_picture(rows), "ranking"),
        metric_picture=embed(metric_picture(rows), "metric"),
        losses_picture=embed(losses_picture(rows), "losses"),
        weights_picture=embed(weights_picture(rows), "weights"),
    )
    return render_page(title, filled)


def headline(rows: Sequence[Standing]) -> str:
    """One sentence that says what the comparison showed.

    Args:
        rows: Best first, at least one.

    Returns:
        The best method beside the plain sum and, where it is known, the right weights.
    """
    problem = rows[0].runs[0].problem
    found = {row.balancer: row for row in rows}
    methods = [row for row in rows if row.balancer not in (PLAIN_SUM, RIGHT)]
    if not methods:
        return f"{problem.name}: {rows[0].title} reaches {problem.metric} {rows[0].metric}."
    best, plain, right = methods[0], found.get(PLAIN_SUM), found.get(RIGHT)
    sentence = f"{best.title} reaches {problem.metric} {best.metric.mean:.3f}"
    if plain:
        sentence += f"; the plain sum of the losses reaches {plain.metric.mean:.3f}"
    if right:
        sentence += f", the right weights, known beforehand, {right.metric.mean:.3f}"
    if plain and _before(plain, best, rows):
        return f"No balancer beats the plain sum here: {sentence}."
    return f"{sentence}."


def _before(first: Standing, second: Standing, rows: Sequence[Standing]) -> bool:
    order = [row.balancer for row in rows]
    return order.index(first.balancer) < order.index(second.balancer)


def protocol(rows: Sequence[Standing]) -> str:
    """One sentence that says how the runs were made.

    Args:
        rows: At least one.

    Returns:
        Epochs, batch size, learning rate and seeds.
    """
    options = rows[0].runs[0].options
    counts = sorted({len(row.runs) for row in rows})
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    interval = (
        "one seed gives no interval"
        if counts[-1] == 1
        else "intervals and bands are 95 % t-intervals over the seeds"
    )
    return (
        f"Every method trained the same model on the same batches with Adam's learning rate "
        f"{options.lr:g}, {options.epochs} epochs in batches of {options.batch_size}; "
        f"seeds for each method: {seeds}; {interval}."
    )


def _ranking_row(rank: int, row: Standing) -> str:
    cells = (str(row.metric), str(len(row.runs)), format_time(row.relative_time))
    numbers = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><td>{rank}</td><th scope="row">{escape(row.title)}</th>{numbers}</tr>'


def _weight_row(row: Standing) -> str:
    weights = row.final_weights.values()
    numbers = "".join(f"<td>{'' if isnan(weight) else f'{weight:.3g}'}</td>" for weight in weights)
    return f'<tr><th scope="row">{escape(row.title)}</th>{numbers}</tr>'
