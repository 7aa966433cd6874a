"""The page of a claim, from the claim and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scripts.evidence.claim import Claim
from scripts.evidence.findings import Findings
from scripts.evidence.judging import Judged

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
    best = [f"`{row.label}`" for row in findings.rows if row.rank.split("-")[0] == "1"]
    worse = [f"`{row.label}`" for row in findings.rows if row.verdict == "worse"]
    better = [f"`{row.label}`" for row in findings.rows if row.verdict == "better"]
    return (
        f"Worse than the plain sum here: {_listed(worse)}. Better: {_listed(better)}. "
        f"({findings.seeds} seeds, paired t-tests, Holm's correction over the rows.) "
        f"Behind none: {_listed(best)}."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def _expectations(judged: Sequence[Judged]) -> str:
    lines = [
        _line(["if the claim is true", "found", "difference", "so it"]),
        _line(["---", "---", "---:", "---"]),
    ]
    lines += [
        _line([str(each.expected), each.found, each.difference, f"{each.outcome}{_within(each)}"])
        for each in judged
    ]
    return "\n".join([*lines, "", _how_judged(judged)])


def _within(judged: Judged) -> str:
    return f" (margin {judged.margin})" if judged.margin else ""


def _how_judged(judged: Sequence[Judged]) -> str:
    """What the words in the table mean; an interval without zero may still be "alike"."""
    said = "Found is what paired t-tests say after Holm's correction for the lines of this table."
    if not any(each.margin for each in judged):
        return said
    return (
        f'{said} That no difference was found shows no likeness: "no worse" holds where the whole '
        'interval of the difference is on this side of the margin, and "level" where it is inside.'
    )


def results_table(findings: Findings) -> str:
    """All rows, best first, as a table in Markdown."""
    columns = [column for column in _columns(findings) if any(column[2:])]
    lines = [_line(cells) for cells in zip(*columns, strict=True)]
    return "\n".join(lines)


def _columns(findings: Findings) -> list[list[str]]:
    """Head, alignment and cells of each."""
    rows = findings.rows
    direction = "higher" if findings.higher_is_better else "lower"
    right = "---:"
    return [
        ["rank", "---", *(row.rank for row in rows)],
        ["method", "---", *(f"`{row.label}`" for row in rows)],
        [f"{findings.metric} ({direction} is better)", right, *(row.result for row in rows)],
        ["less the plain sum", right, *(row.against_plain for row in rows)],
        ["than the plain sum", "---", *(row.verdict for row in rows)],
        [findings.view, right, *(row.view for row in rows)],
        [f"reached {findings.goal}", right, *(row.reached for row in rows)],
        ["time of a step", right, *("" if row.time is None else f"{row.time:.2f}" for row in rows)],
        ["all runs", right, *("" if row.compute is None else f"{row.compute:.1f}" for row in rows)],
        ["chosen", "---", *(row.choice for row in rows)],
    ]


def _line(cells: Iterable[str]) -> str:
    """A row; numbers stay on one line with their intervals."""
    kept = (cell.replace("|", r"\|").replace(" ± ", "\u00a0±\u00a0") for cell in cells)
    return f"| {' | '.join(kept)} |"


def _repeat(name: str) -> str:
    return (
        f"`python -m scripts.evidence {name}` runs the plan in [`{name}.yaml`](claims/{name}.yaml) "
        "and writes this page again."
    )


def _remarks(claim: Claim) -> list[str]:
    return ["## What else is to be known", claim.remarks.strip()] if claim.remarks else []
