"""The demo's page: four comparisons at a glance, each with a link to its whole report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from equipoise.benchmarks.compare.explained import versions
from equipoise.benchmarks.compare.prepare import Prepared
from equipoise.benchmarks.compare.reading import read_standings
from equipoise.benchmarks.compare.report import REPORT_NAME
from equipoise.benchmarks.demo.findings import Finding, caption, finding, headline, sentence
from equipoise.benchmarks.demo.glance import glance_table, result_table
from equipoise.benchmarks.demo.parts import Part
from equipoise.benchmarks.refusal import RequestError
from equipoise.pages.files import write_atomically
from equipoise.pages.page_frame import embed, render_page
from equipoise.pages.picture_frame import for_phones

PAGE_NAME = "demo.html"
_HEIGHT = 380


def read_findings(asked: Sequence[tuple[Part, Prepared]]) -> list[Finding]:
    """What came out of the parts, as far as they have a result.

    Args:
        asked: Each part, and its comparison.

    Raises:
        RequestError: If results cannot be read.
    """
    there = [(part, one.comparison) for part, one in asked if one.comparison.has_result()]
    return [
        finding(part, read_standings(comparison.folder, comparison.experiment))
        for part, comparison in there
    ]


def write_page(folder: Path, found: Sequence[Finding]) -> Path:
    """Writes the page.

    Args:
        folder: Holds a folder for each part, with its report.
        found: At least one.

    Returns:
        Where the page is.

    Raises:
        RequestError: If it cannot be written. A page that was there before stays then.
    """
    page = folder / PAGE_NAME
    try:
        write_atomically(page, render(found))
    except OSError as error:
        raise RequestError(f"{page} cannot be written: {error.strerror}.") from error
    return page


def render(found: Sequence[Finding]) -> str:
    """The page.

    Args:
        found: At least one.

    Returns:
        HTML with the pictures, plotly.js and the styles in it.
    """
    body = _template("demo_body.html").substitute(
        headline=escape(headline(found)),
        glance=glance_table(found),
        sections="\n".join(_section(each) for each in found),
        versions=escape(versions(found[0].rows[0].runs[0])),
    )
    return render_page("equipoise demo", body)


def _section(found: Finding) -> str:
    part = found.part
    return _template("section.html").substitute(
        name=escape(part.name),
        title=escape(part.title),
        description=escape(found.rows[0].runs[0].problem.description),
        found=escape(sentence(found)),
        table=result_table(found),
        picture=_picture(found),
        shows=escape(part.caption),
        caption=escape(caption(found)),
        report=escape(f"{part.name}/{REPORT_NAME}"),
        problem=escape(part.name),
    )


def _picture(found: Finding) -> str:
    """Half as wide as a page at most, a picture is laid out as on a phone everywhere."""
    figure = found.part.picture(found.rows)
    figure.update_layout(height=_HEIGHT)
    figure.layout = for_phones(figure)
    return embed(figure, f"{found.part.name}-picture")


def _template(name: str) -> Template:
    text = files("equipoise.benchmarks.demo").joinpath(name).read_text(encoding="utf-8")
    return Template(text)
