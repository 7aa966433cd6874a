"""`report.html`: everything a comparison found, on one page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from math import isnan
from pathlib import Path
from string import Template

import plotly.graph_objects as go

from equipoise.benchmarks.compare.explained import explained, provenance
from equipoise.benchmarks.compare.pictures import (
    losses_picture,
    metric_picture,
    ranking_picture,
    weights_picture,
)
from equipoise.benchmarks.compare.results import FILE_NAME, Results
from equipoise.benchmarks.compare.run import Experiment, Run
from equipoise.benchmarks.compare.statistics import Standing, standings
from equipoise.benchmarks.compare.step_times import read_timing
from equipoise.benchmarks.compare.table import ranking_cells
from equipoise.benchmarks.diagnose.kept import read_diagnosis
from equipoise.benchmarks.diagnose.outcome import outcome
from equipoise.benchmarks.methods import PLAIN_SUM, RIGHT
from equipoise.benchmarks.refusal import RequestError
from equipoise.monitor.diagnosis_summary import Summary
from equipoise.pages.files import write_atomically
from equipoise.pages.page_frame import embed, render_page
from equipoise.pages.picture_frame import for_phones

REPORT_NAME = "report.html"


def read_standings(folder: Path, experiment: Experiment | None = None) -> list[Standing]:
    """The ranking of an experiment.

    Args:
        folder: Holds `results.jsonl`. Runs of other experiments are kept there, and left out here.
        experiment: Which; by default that of the last line, for which the folder was last used.

    Returns:
        One row for each method, best first.

    Raises:
        RequestError: If the folder has no finished run, or its results cannot be read.
    """
    runs = Results(folder).read()
    wanted = runs[-1].experiment if runs and experiment is None else experiment
    chosen = [run for run in runs if run.experiment == wanted]
    if wanted is None or not chosen:
        raise RequestError(
            f"{folder / FILE_NAME} holds no finished run; run equipoise compare first."
        )
    _check_comparable(folder, chosen)
    return standings(chosen, read_timing(folder, wanted))


def _check_comparable(folder: Path, runs: Sequence[Run]) -> None:
    """Refuses runs that the same problem and options cannot have left."""
    for run in runs:
        if _shape(run) != _shape(runs[0]):
            raise RequestError(
                f"{folder / FILE_NAME}: {run.balancer} with seed {run.seed} was recorded at other "
                f"steps, or with other losses or another metric, than {runs[0].balancer} with seed "
                f"{runs[0].seed}; delete the line of the one that is wrong."
            )


def _shape(run: Run) -> tuple[object, ...]:
    facts, trajectory = run.problem, run.trajectory
    metric = (facts.metric, facts.higher_is_better)
    return metric, list(trajectory.losses), trajectory.steps, run.metric_steps


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
    html = render(rows, read_diagnosis(folder, rows[0].runs[0].experiment))
    page = folder / REPORT_NAME
    try:
        write_atomically(page, html)
    except OSError as error:
        raise RequestError(f"{page} cannot be written: {error.strerror}.") from error
    return page


def render(rows: Sequence[Standing], diagnosis: Summary | None = None) -> str:
    """The page.

    Args:
        rows: Best first, at least one.
        diagnosis: Of the problem, before it was trained.

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
        diagnosis="" if diagnosis is None else _diagnosed(diagnosis, rows),
        metric=escape(problem.metric),
        ranking_rows="\n".join(_ranking_row(rank, row) for rank, row in enumerate(rows, start=1)),
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
        return f"{problem.name}: {rows[0].title} reaches {problem.metric} {rows[0].result}."
    best, plain, right = methods[0], found.get(PLAIN_SUM), found.get(RIGHT)
    sentence = _reached(best.title, f"reaches {problem.metric}", best)
    if plain:
        sentence += f"; {_reached('the plain sum of the losses', 'reaches', plain)}"
    if right:
        sentence += f", {_reached('the right weights, known beforehand,', 'reach', right)}"
    if best.failures:
        return f"No balancer has a result for every seed: {sentence}."
    if plain and _before(plain, best, rows):
        return f"No balancer beats the plain sum here: {sentence}."
    return f"{sentence}."


def _reached(who: str, reaches: str, row: Standing) -> str:
    """What a row reached, in words; a mean over the seeds that survived is called one."""
    if not row.metric.count:
        return f"{who} had no result ({row.failures})"
    reached = f"{who} {reaches} {row.metric.mean:.3f}"
    return f"{reached} on the seeds that remain ({row.failures})" if row.failures else reached


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
    numbers = "".join(f"<td>{escape(cell)}</td>" for cell in ranking_cells(row))
    return f'<tr><td>{rank}</td><th scope="row">{escape(row.title)}</th>{numbers}</tr>'


def _weight_row(row: Standing) -> str:
    weights = row.final_weights.values()
    numbers = "".join(f"<td>{'' if isnan(weight) else f'{weight:.3g}'}</td>" for weight in weights)
    return f'<tr><th scope="row">{escape(row.title)}</th>{numbers}</tr>'
