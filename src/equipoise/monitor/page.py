"""`report.html` of a record: what balancing did in a training, or in several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.monitor.curves import Curves, curves_of
from equipoise.monitor.history import History, RecordError
from equipoise.monitor.summary import headline
from equipoise.monitor.tables import table_of, table_of_pairs
from equipoise.pages.files import write_atomically

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from equipoise.monitor.sections import Section

REPORT_NAME = "report.html"


def write_page(histories: Sequence[History], path: Path) -> Path:
    """Writes the page.

    Args:
        histories: The runs, side by side.
        path: Where.

    Returns:
        The file.

    Raises:
        RecordError: If a run has no step yet, or the page cannot be written.
        ModuleNotFoundError: If plotly is not installed.
    """
    html = render(histories)
    try:
        write_atomically(path, html)
    except OSError as error:
        raise RecordError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def render(histories: Sequence[History]) -> str:
    """The page.

    Args:
        histories: At least one run.

    Returns:
        HTML with the pictures, plotly.js and the styles in it.

    Raises:
        RecordError: If a run has no step yet.
        ModuleNotFoundError: If plotly is not installed.
    """
    for history in histories:
        if not history.entries:
            raise RecordError(f"{history.label} holds no step yet; look again when it has.")
    try:
        from equipoise.monitor.sections import SECTIONS
        from equipoise.pages.page_frame import render_page
    except ModuleNotFoundError as error:
        msg = 'The page is drawn by plotly, which is not here: pip install "equipoise[compare]"'
        raise ModuleNotFoundError(msg) from error
    histories = _told_apart(histories)
    labels = ", ".join(history.label for history in histories)
    title = f"{labels}: what balancing did"
    runs = [
        _Run(history, curves_of(history), f"{history.label}: " if len(histories) > 1 else "")
        for history in histories
    ]
    parts = _top(histories, title)
    parts += [line for run in runs for line in table_of(run.history, run.whose)]
    numbers = count()
    for section in SECTIONS:
        parts += _shown(section, runs, numbers)
    parts += [line for run in runs for line in table_of_pairs(run.curves, run.whose)]
    return render_page(title, "\n".join([*parts, *_facts(histories)]))


def _told_apart(histories: Sequence[History]) -> list[History]:
    """The runs, those of one label numbered: folders `a/run` and `b/run` are both called `run`."""
    labels = [history.label for history in histories]
    return [
        replace(history, label=f"{history.label} ({labels[:place].count(history.label) + 1})")
        if labels.count(history.label) > 1
        else history
        for place, history in enumerate(histories)
    ]


@dataclass(frozen=True)
class _Run:
    """A run on the page; ``whose`` tells it apart where it is not alone."""

    history: History
    curves: Curves
    whose: str


def _top(histories: Sequence[History], title: str) -> list[str]:
    first, *others = histories
    if not others:
        return [f'<p class="kicker">{escape(title)}</p>', f"<h1>{escape(headline(first))}</h1>"]
    said = [
        f"<p><strong>{escape(history.label)}</strong>: {escape(headline(history))}</p>"
        for history in histories
    ]
    return [f"<h1>{escape(title)}</h1>", *said]


def _shown(section: Section, runs: Sequence[_Run], numbers: count[int]) -> list[str]:
    """A heading with the pictures of all runs that have something to show."""
    from equipoise.monitor.pictures import alike

    drawn = [(run, section.draw(run.history, run.curves)) for run in runs]
    figures = [(run, figure) for run, figure in drawn if figure is not None]
    alike([figure for _, figure in figures])
    shown = [_figure(section, run, figure, f"picture{next(numbers)}") for run, figure in figures]
    if not shown:
        return []
    top = [f"<h2>{section.title}</h2>", f"<p>{section.explained}</p>", '<div class="side">']
    return [*top, *shown, "</div>"]


def _figure(section: Section, run: _Run, figure: go.Figure, name: str) -> str:
    from equipoise.pages.page_frame import embed
    from equipoise.pages.picture_frame import for_phones

    said = f"{run.whose}{section.title}: {section.spoken(run.history, run.curves)}"
    caption = f"<figcaption>{escape(run.history.label)}</figcaption>" if run.whose else ""
    return (
        f'<figure class="fluid" role="group" tabindex="0" aria-label="{escape(said)}">{caption}'
        f"{embed(figure, name, on_phone=for_phones(figure))}</figure>"
    )


def _facts(histories: Sequence[History]) -> list[str]:
    """How each run was made."""
    found = ["<h2>How it was recorded</h2>"]
    for history in histories:
        header = history.header
        told = {**header.get("options", {}), **header.get("versions", {})}
        facts = ", ".join(f"{name} {_short(value)}" for name, value in told.items())
        unread = f" {history.unread} lines could not be read." if history.unread else ""
        kept = _which_steps(header.get("every", 1))
        found.append(
            f"<p>{escape(history.label)}: {escape(header['method'])}; {kept} kept; "
            f"started {escape(str(header.get('started')))}; "
            f"{escape(facts)}.{unread}</p>"
        )
    return found


def _which_steps(every: int) -> str:
    return "every step" if every == 1 else f"one step in {every}"


def _short(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
