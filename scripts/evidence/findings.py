"""What a comparison found, as numbers: small enough to be kept, enough to make its page again."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.evidence.claim import Claim, Expected

from equipoise.benchmarks.compare.paired import difference, holm, ranks, relation, verdicts
from equipoise.benchmarks.compare.sentences import protocol
from equipoise.benchmarks.compare.statistics import Standing, mean_curve
from equipoise.benchmarks.methods import PLAIN_SUM
from equipoise.benchmarks.schema import conform


@dataclass(frozen=True)
class Row:
    """One method.

    Args:
        label: As it was asked for.
        result: The metric, with its interval, or how runs failed.
        rank: Those that it may have.
        against_plain: Difference to the plain sum, with its interval.
        verdict: ``"better"``, ``"worse"`` or ``"alike"`` beside the plain sum; empty for itself.
        time: Of a step, over that of the plain sum.
        compute: Of all runs that the row took, over one plain sum for each seed.
        choice: What was chosen, and among how many.
        means: The metric at each of `Findings.steps`; ``None`` where it was not finite.
        half_widths: Of its 95 % intervals.
    """

    label: str
    result: str
    rank: str
    against_plain: str
    verdict: str
    time: float | None
    compute: float | None
    choice: str
    means: list[float | None]
    half_widths: list[float]


@dataclass(frozen=True)
class Judged:
    """One expectation beside what was found.

    Args:
        expected: As it is written in the claim.
        found: What may be said in its place.
        difference: The row less the other one, with its interval.
        holds: Whether it is so.
    """

    expected: str
    found: str
    difference: str
    holds: bool


@dataclass(frozen=True)
class Findings:
    """What was found of a claim.

    Args:
        problem: Its name.
        description: What it is.
        metric: What was measured.
        higher_is_better: Whether a larger metric is a better one.
        protocol: How, in words.
        versions: Of equipoise and torch, and the device.
        seeds: How many.
        steps: Of the curves.
        rows: Best first.
        judged: What the claim expected.
    """

    problem: str
    description: str
    metric: str
    higher_is_better: bool
    protocol: str
    versions: str
    seeds: int
    steps: list[int]
    rows: list[Row]
    judged: list[Judged]

    @property
    def verdict(self) -> str:
        """What may be said of the claim."""
        held = [each.holds for each in self.judged]
        return "reproduced" if all(held) else "partly reproduced" if any(held) else "not reproduced"


def findings_of(claim: Claim, rows: Sequence[Standing]) -> Findings:
    """What a finished comparison says of a claim.

    Args:
        claim: The claim.
        rows: The ranking, best first.

    Returns:
        Its numbers.

    Raises:
        ValueError: If the claim speaks of a row that is not there.
    """
    run = rows[0].runs[0]
    facts, kept = run.problem, run.fingerprint
    return Findings(
        problem=facts.name,
        description=facts.description,
        metric=facts.metric,
        higher_is_better=facts.higher_is_better,
        protocol=protocol(rows),
        versions=f"equipoise {kept.equipoise}, torch {kept.torch}, {kept.device}",
        seeds=max(len(row.runs) for row in rows),
        steps=list(run.metric_steps),
        rows=_rows(rows),
        judged=_judged(claim, rows),
    )


def _rows(rows: Sequence[Standing]) -> list[Row]:
    plain = next(row for row in rows if row.balancer == PLAIN_SUM)
    told = verdicts(rows, plain)
    return [
        Row(
            label=row.balancer,
            result=row.result,
            rank=rank,
            against_plain="" if row is plain else str(difference(row, plain)),
            verdict=told.get(row.balancer, ""),
            time=_rounded(row.relative_time),
            compute=_rounded(row.compute),
            choice=row.choice,
            **_curve(row),
        )
        for row, rank in zip(rows, ranks(rows), strict=True)
    ]


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.3g}")


def _curve(row: Standing) -> dict[str, list[float | None]]:
    sound = [run for run in row.runs if not run.failed] or row.runs
    curve = mean_curve(sound[0].metric_steps, [run.metric_curve for run in sound])
    means = [None if math.isnan(mean) else float(f"{mean:.4g}") for mean in curve.means]
    return {"means": means, "half_widths": [float(f"{w:.3g}") for w in curve.half_widths]}


def _judged(claim: Claim, rows: Sequence[Standing]) -> list[Judged]:
    """All expectations of a claim together: their p-values are corrected for being several."""
    by_label = {row.balancer: row for row in rows}
    missing = {each.row for each in claim.expected} | {each.other for each in claim.expected}
    missing -= set(by_label)
    if missing:
        msg = f"{claim.name}: no row is called {sorted(missing)}; there are {sorted(by_label)}."
        raise ValueError(msg)
    pairs = [(by_label[each.row], by_label[each.other]) for each in claim.expected]
    found = [difference(*pair) for pair in pairs]
    tested = holm([1.0 if each.p_value is None else each.p_value for each in found])
    return [
        _one_judged(expected, relation(*pair, each, p), str(each))
        for expected, pair, each, p in zip(claim.expected, pairs, found, tested, strict=True)
    ]


_HOLDS = {
    "better than": {"better"},
    "no worse than": {"better", "alike"},
    "level with": {"alike"},
    "worse than": {"worse"},
}


def _one_judged(expected: Expected, found: str, gap: str) -> Judged:
    return Judged(str(expected), found, gap, holds=found in _HOLDS[expected.relation])


def write_findings(path: Path, findings: Findings) -> None:
    """Keeps findings as JSON, a line for each name, so that changes can be seen."""
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in asdict(findings).items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read_findings(path: Path) -> Findings:
    """What was kept.

    Raises:
        ValueError: If it is something else.
    """
    return conform(Findings, json.loads(path.read_text(encoding="utf-8")))
