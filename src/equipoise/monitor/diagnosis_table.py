"""A diagnosis for people: as text, as HTML, for rich; and for programs: as a dictionary."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING

from equipoise.monitor.advice import Advice
from equipoise.monitor.diagnosis_findings import Findings, LossFinding, PairFinding
from equipoise.monitor.diagnosis_statistics import Estimate
from equipoise.monitor.diagnosis_verdict import Judgement, Thresholds, clipped

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

MOST_PAIRS = 10
"""Rows of the table of pairs; the lowest cosines come first."""

_LOSS_HEADS = ("loss", "value", "gradient norm", "share", "Adam's share", "signal", "batches")
_PAIR_HEADS = ("pair", "cosine", "without noise", "below zero", "more than noise", "similarity")

Rows = list[tuple[str, ...]]


def loss_rows(findings: Findings) -> Rows:
    """The table of losses, its head first."""
    return [
        _LOSS_HEADS,
        *(
            (
                loss.name,
                number(loss.value),
                number(loss.norm) if loss.batches else "-",
                percent(loss.share if loss.batches else math.nan),
                percent(loss.adam_share if loss.batches else math.nan),
                number(loss.signal.coherence, ".2f"),
                str(loss.batches),
            )
            for loss in findings.losses
        ),
    ]


def pair_rows(findings: Findings) -> Rows:
    """The table of pairs, its head first: those with the lowest cosines."""
    ordered = sorted(findings.pairs, key=lambda pair: (math.isnan(_key(pair)), _key(pair)))
    return [
        _PAIR_HEADS,
        *(
            (
                f"{pair.first} ~ {pair.second}",
                _interval(pair.mean_cosine),
                number(clipped(pair.cosine.value), ".2f"),
                percent(pair.below_zero),
                "yes" if pair.beyond_noise else "no",
                number(pair.magnitude_similarity, ".2f"),
            )
            for pair in ordered[:MOST_PAIRS]
        ),
    ]


def overall(findings: Findings) -> str:
    """One line over all losses."""
    more = len(findings.pairs) - MOST_PAIRS
    line = (
        f"{findings.batches} batches; norms, largest : smallest, {number(findings.norm_ratio)}; "
        f"alignment score {number(findings.alignment, '.2f')}; "
        f"magnitude similarity {number(findings.magnitude_similarity, '.2f')}"
    )
    return f"{line}; {more} more pairs not shown" if more > 0 else line


def notes(findings: Findings) -> list[str]:
    """What to know of single losses."""
    return [note for loss in findings.losses for note in _notes_on(loss, findings.batches)]


def _notes_on(loss: LossFinding, batches: int) -> Iterator[str]:
    name = repr(loss.name)
    if loss.batches and loss.zero == loss.batches:
        yield f"{name} has a zero gradient in every batch: no weight changes anything about it."
    elif loss.zero:
        yield f"{name} has a zero gradient in {loss.zero} of {loss.batches} batches."
    if loss.apart:
        yield f"{name} shares nothing that is watched, in {loss.apart} of {batches} batches."
    if loss.nonfinite:
        yield f"{name} was not finite in {loss.nonfinite} of {batches} batches: left out there."
    if loss.graphless:
        yield f"{name} had no graph in {loss.graphless} of {batches} batches: left out there."
    if loss.negative:
        yield (
            f"{name} is negative in {loss.negative} of {batches} batches: methods that take "
            "logarithms or ratios of losses do not suit it."
        )
    absent = batches - loss.batches - loss.apart - loss.nonfinite - loss.graphless
    if absent > 0:
        yield f"{name} was not measured in {absent} of {batches} batches: absent, or alone there."


def as_text(findings: Findings, judgement: Judgement, advice: Sequence[Advice]) -> str:
    """For `print`."""
    parts = [_aligned(loss_rows(findings))]
    if findings.pairs:
        parts.append(_aligned(pair_rows(findings)))
    parts.append(overall(findings))
    parts += ["\n".join(notes(findings))] if notes(findings) else []
    parts.append(f"Verdict: {judgement.verdict}. {judgement.sentence}")
    if advice:
        parts.append("\n".join(["To try:", *(f"  {each}" for each in advice)]))
    return "\n\n".join(parts)


def as_html(findings: Findings, judgement: Judgement, advice: Sequence[Advice]) -> str:
    """For notebooks and pages: a fragment, everything escaped."""
    sentence = f"<strong>{judgement.verdict}</strong>. {escape(judgement.sentence)}"
    parts = [f"<p>{sentence}</p>", _listed(map(str, advice)), _html_table(loss_rows(findings))]
    if findings.pairs:
        parts.append(_html_table(pair_rows(findings)))
    return "\n".join([*parts, f"<p>{escape(overall(findings))}</p>", _listed(notes(findings))])


def as_rich(findings: Findings, judgement: Judgement, advice: Sequence[Advice]) -> RenderableType:
    """For rich's consoles."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_rich_table(loss_rows(findings))]
    if findings.pairs:
        parts.append(_rich_table(pair_rows(findings)))
    lines = [overall(findings), *notes(findings), "To try:" if advice else ""]
    verdict = Text.assemble((judgement.verdict, "bold"), f": {judgement.sentence}")
    tried = [Text(f"  {each}") for each in advice]
    return Group(*parts, *map(Text, lines[:-1]), Text(), verdict, Text(lines[-1]), *tried)


def as_dict(
    findings: Findings, judgement: Judgement, advice: Sequence[Advice], thresholds: Thresholds
) -> dict[str, object]:
    """For JSON: numbers that are not known are ``None``."""
    found = {
        "verdict": judgement.verdict,
        "sentence": judgement.sentence,
        "batches_needed": judgement.batches_needed,
        "advice": [asdict(each) for each in advice],
        "batches": findings.batches,
        "losses": {loss.name: asdict(loss) for loss in findings.losses},
        "pairs": [asdict(pair) | {"beyond_noise": pair.beyond_noise} for pair in findings.pairs],
        "norm_ratio": findings.norm_ratio,
        "alignment": findings.alignment,
        "magnitude_similarity": findings.magnitude_similarity,
        "notes": notes(findings),
        "thresholds": asdict(thresholds),
    }
    return {key: _known(value) for key, value in found.items()}


def _known(value: object) -> object:
    if isinstance(value, dict):
        return {key: _known(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_known(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: float, form: str = ".3g") -> str:
    """A number for a table; a dash where there is none."""
    return format(value, form) if math.isfinite(value) else "-"


def percent(share: float) -> str:
    """A share for a table; a dash where there is none."""
    if 0 < share < 0.01:
        return f"{share:.1e}" if share < 1e-4 else f"{share:.2%}"
    return f"{share:.0%}" if math.isfinite(share) else "-"


def _key(pair: PairFinding) -> float:
    return pair.cosine.value if math.isfinite(pair.cosine.value) else pair.mean_cosine.value


def _interval(estimate: Estimate) -> str:
    spread = f" ± {estimate.half_width:.2f}" if math.isfinite(estimate.half_width) else ""
    return f"{number(estimate.value, '.2f')}{spread}"


def _aligned(rows: Rows) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _html_table(rows: Rows) -> str:
    head, *body = rows
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in body
    )
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _listed(lines: Iterator[str] | Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _rich_table(rows: Rows) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for place, head in enumerate(rows[0]):
        table.add_column(head, justify="right" if place else "left")
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    return table
