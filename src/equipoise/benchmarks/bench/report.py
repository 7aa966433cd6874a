"""`bench.html`: the whole benchmark on one page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from equipoise.benchmarks.bench.pictures import growth_picture, price_picture
from equipoise.benchmarks.bench.table import COLUMNS, NOTES, by_setting, cells, title, unsteady
from equipoise.pages.files import write_atomically
from equipoise.pages.page_frame import embed, render_page
from equipoise.pages.picture_frame import for_phones

if TYPE_CHECKING:
    from equipoise.benchmarks.bench.prices import Bench, Price

REPORT_NAME = "bench.html"
_TITLE = "The price of a step"


def write_report(folder: Path, bench: Bench) -> Path:
    """Writes the page.

    Args:
        folder: Where.
        bench: What was measured, at least one price.

    Returns:
        The file.
    """
    path = folder / REPORT_NAME
    write_atomically(path, render(bench))
    return path


def render(bench: Bench) -> str:
    """The page.

    Args:
        bench: What was measured, at least one price.

    Returns:
        HTML.
    """
    settings = ", ".join(f"{name} {value}" for name, value in bench.settings.items())
    body = [f"<h1>{_TITLE}</h1>", f"<p>{escape(NOTES)}</p>", f"<p>{escape(settings)}.</p>"]
    for number, model in enumerate(dict.fromkeys(price.model for price in bench.prices)):
        prices = [price for price in bench.prices if price.model == model]
        if len({price.losses for price in prices}) > 1:
            body.append(f"<h2>{model}: how time grows with the number of losses</h2>")
            body.append(_figure(growth_picture(prices), f"growth{number}", model))
    for number, (setting, prices) in enumerate(by_setting(bench.prices)):
        body.append(f"<h2>{setting}</h2>")
        body.append(_figure(price_picture(prices), f"price{number}", setting))
        body.append(_table(setting, prices))
    body += [f"<p>{escape(line)}</p>" for line in (*bench.skipped, unsteady(bench.prices)) if line]
    return render_page(_TITLE, "\n".join(body))


def _figure(figure: go.Figure, name: str, label: str) -> str:
    html = embed(figure, name, on_phone=for_phones(figure))
    said = f"Time and memory of a step: {label}"
    return f'<figure class="fits" role="group" tabindex="0" aria-label="{said}">{html}</figure>'


def _table(setting: str, prices: Sequence[Price]) -> str:
    columns = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(title(price))}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells(price))
        + "</tr>"
        for price in prices
    )
    return (
        '<div class="scroll" role="region" tabindex="0" '
        f'aria-label="Prices of a step: {setting}"><table>'
        f"<caption>Prices of a step: {setting}</caption>"
        f'<thead><tr><th scope="col" class="name">method</th>{columns}'
        f"</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    )
