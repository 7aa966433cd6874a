"""All claims at a glance, and all methods over all problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from scripts.evidence.claim import Claim
from scripts.evidence.findings import Findings, Row

_NOTE = "<!-- Written by `make evidence`; edit the claims. -->"
_INTRODUCTION = """\
Does balancing help, on which problem, which method, at what cost? Each page has a claim of the
field, a comparison that anyone can repeat, and what it showed; what did not hold stands first."""
_LEGEND = """\
`+` better than the plain sum and `−` worse (paired t-tests, Holm's correction), `·` not told from
it; bold: among those of which none can be told to be the best; `×` some run failed; the number is
the time of a step over that of `sum(losses).backward()`, on one thread. Options that were tried on
one problem alone are on its page.

These models are small, so that they can be trained hundreds of times: a plain step takes one to
some milliseconds, most of them spent in Python, and what the library does on top, half a
millisecond to a few, weighs more than it would where a step takes a tenth of a second. That is why
`equal`, the plain sum taken through the library, costs more than 1 here. What methods cost on
larger models stands on their own pages."""
_SIGNS = {"better": "+", "worse": "−", "alike": "·", "": ""}


def overview(found: Sequence[tuple[Claim, Findings]]) -> str:
    """The page that the others hang on.

    Args:
        found: Every claim with its findings.
    """
    order = {"not reproduced": 0, "partly reproduced": 1, "reproduced": 2}
    claims = sorted(found, key=lambda pair: (order[pair[1].verdict], pair[0].title))
    lines = ["| claim | verdict | problem | seeds |", "| --- | --- | --- | ---: |"]
    lines += [
        f"| [{claim.title}]({claim.name}.md) | {findings.verdict} | {findings.problem} "
        f"| {findings.seeds} |"
        for claim, findings in claims
    ]
    return (
        "\n\n".join(
            [
                _NOTE,
                "# Evidence",
                _INTRODUCTION,
                "\n".join(lines),
                "## Methods over problems",
                _LEGEND,
                # Rows of another optimizer or beta2 say nothing of methods.
                methods_table([findings for claim, findings in found if not claim.beside]),
                "```{toctree}\n:hidden:\n\n"
                + "\n".join(claim.name for claim, _ in claims)
                + "\n```",
            ]
        )
        + "\n"
    )


def methods_table(all_findings: Sequence[Findings]) -> str:
    """Methods by problems, those with most signs of being better first.

    A method with options stands here if it was tried on several problems.

    Args:
        all_findings: Of all claims; of a problem that comes twice, the one with more rows counts.
    """
    problems: dict[str, Findings] = {}
    for findings in sorted(all_findings, key=lambda each: len(each.rows)):
        problems[findings.problem] = findings
    names = sorted(problems)
    rows = {name: {row.label: row for row in problems[name].rows} for name in names}
    counts = Counter(label for found in rows.values() for label in found)
    labels = sorted(label for label, count in counts.items() if count > 1 or label.isidentifier())
    labels.sort(key=lambda label: -_balance(rows, label))
    heads = " | ".join(name.replace("_", " ") for name in names)
    lines = [f"| | {heads} |", f"| --- |{' :-: |' * len(names)}"]
    for label in labels:
        cells = [_cell(rows[name].get(label)) for name in names]
        lines.append(f"| `{label}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _balance(rows: Mapping[str, Mapping[str, Row]], label: str) -> int:
    verdicts = [found[label].verdict for found in rows.values() if label in found]
    return verdicts.count("better") - verdicts.count("worse")


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    sign = _SIGNS[row.verdict]
    best = row.rank.split("-")[0] == "1"
    failed = "×" if row.failures else ""
    price = "" if row.time is None else f" {row.time:.2g}"
    return f"**{sign or '='}**{failed}{price}" if best else f"{sign or '='}{failed}{price}"
