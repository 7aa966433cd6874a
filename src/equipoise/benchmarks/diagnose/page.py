"""`diagnosis.html`: a problem's diagnosis on one page that needs no network."""

from __future__ import annotations

from html import escape
from pathlib import Path

from equipoise import Diagnosis
from equipoise.benchmarks.problem import Problem
from equipoise.benchmarks.refusal import RequestError
from equipoise.pages.files import write_atomically
from equipoise.pages.page_frame import embed, render_page
from equipoise.pages.picture_frame import for_phones

PAGE_NAME = "diagnosis.html"


def write_page(folder: Path, problem: Problem, diagnosis: Diagnosis) -> Path:
    """Writes the page.

    Args:
        folder: Where; made if need be.
        problem: What was diagnosed.
        diagnosis: Its diagnosis.

    Returns:
        Where the page is.

    Raises:
        RequestError: If it cannot be written.
    """
    page = folder / PAGE_NAME
    try:
        write_atomically(page, render(problem, diagnosis))
    except OSError as error:
        raise RequestError(f"{page} cannot be written: {error.strerror}.") from error
    return page


def render(problem: Problem, diagnosis: Diagnosis) -> str:
    """The page.

    Args:
        problem: What was diagnosed.
        diagnosis: Its diagnosis.

    Returns:
        HTML with the picture, plotly.js and the styles in it.
    """
    title = f"{problem.name}: diagnosis of the losses"
    label = "Gradient norms, shares of the gradient and cosines of each pair of losses"
    figure = diagnosis.plot().update_layout(title=None)  # the page says it in words above
    picture = embed(figure, "diagnosis", on_phone=for_phones(figure))
    body = (
        '<p class="kicker">diagnosis of the losses, before any training</p>\n'
        f"<h1>{escape(problem.name)}: {diagnosis.verdict}</h1>\n"
        f"<p>{escape(problem.description)}</p>\n"
        f"{diagnosis.summary.as_html()}\n"
        f'<figure class="fits" role="group" tabindex="0" aria-label="{label}">{picture}</figure>'
    )
    return render_page(title, body)
