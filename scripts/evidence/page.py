"""The page of a claim, from the claim and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scripts.evidence.claim import Claim
from scripts.evidence.findings import Findings, Judged, Row

_NOTE = "<!-- Written by `make evidence` from the claim and the findings beside it; edit those. -->"


def claim_page(claim: Claim, findings: Findings) -> str:
    """A page in Markdown.

    Args:
        claim: What is said.
        findings: What was found.
    """
    parts = [
        _NOTE,
        f"# {claim.title}",
        f"> {claim.says.strip()}",
        f"{claim.source.strip()}",
        f"**{findings.verdict.capitalize()}.** {_sentence(findings)}",
        _expectations(findings.judged),
        "## Protocol",
        f"{findings.description} {findings.protocol} {findings.versions}.",
        "## Result",
        f"![{findings.metric} over the training, with 95 % intervals]({claim.name}.svg)",
        results_table(findings),
        *_remarks(claim),
        "## Repeat it",
        _repeat(claim.name),
    ]
    return "\n\n".join(parts) + "\n"


def _sentence(findings: Findings) -> str:
    worse = [f"`{row.label}`" for row in findings.rows if row.verdict == "worse"]
    better = [f"`{row.label}`" for row in findings.rows if row.verdict == "better"]
    said = [f"Worse than the plain sum here: {_listed(worse)}.", f"Better: {_listed(better)}."]
    tested = f"({findings.seeds} seeds, paired t-tests, Holm's correction over the rows.)"
    return f"{said[0]} {said[1]} {tested}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def _expectations(judged: Iterable[Judged]) -> str:
    lines = ["| if the claim is true | found | difference | |", "| --- | --- | ---: | --- |"]
    for each in judged:
        held = "holds" if each.holds else "does not hold"
        lines.append(f"| {each.expected} | {each.found} | {each.difference} | {held} |")
    return "\n".join(lines)


def results_table(findings: Findings) -> str:
    """All rows, best first, as a table in Markdown."""
    direction = "higher" if findings.higher_is_better else "lower"
    head = ["rank", "", f"{findings.metric} ({direction} is better)", "less the plain sum", ""]
    head += ["time of a step", "all runs", "chosen"]
    lines = [_line(head), _line(["---", "---", "---:", "---:", "---", "---:", "---:", "---"])]
    return "\n".join([*lines, *(_line(_cells(row)) for row in findings.rows)])


def _cells(row: Row) -> list[str]:
    time = "" if row.time is None else f"{row.time:.2f}"
    compute = "" if row.compute is None else f"{row.compute:.1f}"
    verdict = row.verdict and f"({row.verdict})"
    label = f"`{row.label}`"
    return [row.rank, label, row.result, row.against_plain, verdict, time, compute, row.choice]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _repeat(name: str) -> str:
    return (
        f"`python -m scripts.evidence {name}` runs the plan in [`{name}.yaml`](claims/{name}.yaml) "
        "and writes this page again."
    )


def _remarks(claim: Claim) -> list[str]:
    return ["## What else is to be known", claim.remarks.strip()] if claim.remarks else []
