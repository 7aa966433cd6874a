"""What a comparison found, as numbers: small enough to be kept, enough to make its page again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from scripts.evidence.claim import Claim
from scripts.evidence.judging import HOLDS, Judged, judge

from equipoise.benchmarks.compare.goal import reached
from equipoise.benchmarks.compare.other_view import other_view
from equipoise.benchmarks.compare.paired import difference, ranks, verdicts
from equipoise.benchmarks.compare.sentences import protocol
from equipoise.benchmarks.compare.statistics import Standing, best_first, mean_curve
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
        failures: How many runs failed, and how.
        view: The metric at the moment of `Findings.view`.
        reached: On how many seeds the goal was reached, with the interval of its probability.
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
    failures: str = ""
    view: str = ""
    reached: str = ""


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
        view: Another moment than the end of the training, which all rows are also seen at.
        goal: A value of the metric; empty where none was stated.
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
    view: str = ""
    goal: str = ""

    @property
    def verdict(self) -> str:
        """What may be said of the claim."""
        held = [each.outcome == HOLDS for each in self.judged]
        return "reproduced" if all(held) else "partly reproduced" if any(held) else "not reproduced"


def findings_of(
    claim: Claim, rows: Sequence[Standing], beside: Mapping[str, Sequence[Standing]] | None = None
) -> Findings:
    """What a finished comparison says of a claim.

    Args:
        claim: The claim.
        rows: The ranking of its plan, best first.
        beside: The rankings of the plans beside it, by the words of `Claim.beside`.

    Returns:
        Its numbers.

    Raises:
        ValueError: If the claim speaks of a row that is not there.
    """
    run = rows[0].runs[0]
    facts, kept = run.problem, run.fingerprint
    groups = [list(rows)]
    groups += [[_renamed(row, word) for row in those] for word, those in (beside or {}).items()]
    every = best_first([row for group in groups for row in group])
    goal = claim.plan.get("goal")
    return Findings(
        problem=facts.name,
        description=facts.description,
        metric=facts.metric,
        higher_is_better=facts.higher_is_better,
        protocol=" ".join([protocol(rows), *map(_other_plan, claim.beside.items())]),
        versions=f"equipoise {kept.equipoise}, torch {kept.torch}, {kept.device}",
        seeds=max(len(row.runs) for row in every),
        steps=list(run.metric_steps),
        rows=_rows(every, _views(groups), goal),
        judged=judge(claim, every),
        view=other_view(rows).title,
        goal="" if goal is None else f"{goal:g}",
    )


def _renamed(row: Standing, word: str) -> Standing:
    label = f"{row.balancer} ({word})"
    return replace(row, balancer=label, title=label)


def _other_plan(other: tuple[str, Mapping[str, object]]) -> str:
    word, changed = other
    said = ", ".join(f"{key} {value}" for key, value in changed.items() if key != "balancers")
    return f"Rows that end in ({word}) were trained alike but for this: {said}."


def _views(groups: Sequence[Sequence[Standing]]) -> dict[str, str]:
    """Each plan has prices of its own: those beside the plain sum with the same optimizer."""
    views = [other_view(group) for group in groups]
    return {label: str(metric) for view in views for label, metric in view.metrics.items()}


def _rows(rows: Sequence[Standing], views: Mapping[str, str], goal: float | None) -> list[Row]:
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
            failures=row.failures,
            view=views.get(row.balancer, ""),
            reached="" if goal is None else str(reached(row, goal)),
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
