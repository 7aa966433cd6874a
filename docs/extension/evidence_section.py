"""What the evidence pages found of a method, for its own page."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from scripts.evidence.claim import Claim, read_claim
from scripts.evidence.findings import Findings, Row, read_findings

from equipoise.benchmarks.methods import PLAIN_SUM

FOLDER = Path(__file__).parents[1] / "evidence"
INTRODUCTION = (
    "The method beside the plain sum on the same data, step by step and seed by seed: the mean "
    "difference with its 95 % interval, and whether it may be called one after Holm's correction "
    "over all methods of the comparison. Where it lost stands here as well."
)
HEAD = "| problem | written | beside the plain sum | difference | metric | seeds | in the test of |"


@cache
def evidence() -> tuple[tuple[Claim, Findings], ...]:
    """Every claim that was put to the test, in the order of their names."""
    return tuple(
        (read_claim(FOLDER / "claims" / f"{path.stem}.yaml"), read_findings(path))
        for path in sorted(FOLDER.glob("*.json"))
    )


def evidence_section(method: str) -> list[str]:
    """The section of a method's page; nothing where no comparison has it.

    Args:
        method: Its name, as in the registry.

    Returns:
        Paragraphs of Markdown.
    """
    rows = [
        _line(claim, findings, row)
        for claim, findings in evidence()
        for row in findings.rows
        if row.label.partition(":")[0] == method != PLAIN_SUM
    ]
    if not rows:
        return []
    table = "\n".join([HEAD, "| --- | --- | --- | ---: | --- | ---: | --- |", *rows])
    return ["## Evidence", INTRODUCTION, table, "[All methods over all problems](../evidence/index.md)"]


def _line(claim: Claim, findings: Findings, row: Row) -> str:
    better = "higher" if findings.higher_is_better else "lower"
    cells = (
        findings.problem,
        f"`{row.label}`".replace("|", "\\|"),
        f"**{row.verdict}**" if row.verdict else row.result,
        row.against_plain,
        f"{findings.metric} ({better} is better)",
        str(findings.seeds),
        f"[{claim.title}](../evidence/{claim.name}.md)",
    )
    return f"| {' | '.join(cells)} |"
