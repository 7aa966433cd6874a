"""Whether the advice of a diagnosis came true in a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeAlias

from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.methods import PLAIN_SUM, RIGHT
from equipoise.monitor.diagnosis_summary import Summary

Against: TypeAlias = Literal["better", "worse", "alike"]
"""How a method ended beside the plain sum; alike where their intervals meet."""


def outcome(summary: Summary, rows: Sequence[Standing]) -> str:
    """One sentence on what became of the advice.

    Args:
        summary: The diagnosis.
        rows: The comparison, at least one row.

    Returns:
        What the methods that were advised did beside the plain sum; or, where the plain sum was
        advised, whether anything was clearly better.
    """
    plain = next((row for row in rows if row.balancer == PLAIN_SUM), None)
    if plain is None:
        return "Whether the advice came true is not known: the plain sum was not compared."
    others = [row for row in rows if row.balancer not in (PLAIN_SUM, RIGHT)]
    if PLAIN_SUM in [name.lower() for name in summary.advised]:
        return _of_plain_sum(plain, others)
    tried = [row for row in others if _method(row) in map(str.lower, summary.advised)]
    if not tried:
        return "Whether the advice came true is not known: no method of it was compared."
    return _of_methods(plain, tried)


def _of_plain_sum(plain: Standing, others: Sequence[Standing]) -> str:
    if not others:
        return "Whether the advice came true is not known: nothing was compared with the plain sum."
    better = [row.title for row in others if against(row, plain) == "better"]
    if better:
        return f"The advice, the plain sum, did not come true: {_listed(better)} ended better."
    return "The advice came true: no method ended clearly better than the plain sum."


def _of_methods(plain: Standing, tried: Sequence[Standing]) -> str:
    found: dict[Against, list[str]] = {"better": [], "worse": [], "alike": []}
    for row in tried:
        found[against(row, plain)].append(row.title)
    parts = [
        f"{_listed(those)} {_WORDS[how]} the plain sum" for how, those in found.items() if those
    ]
    came = "came true" if found["better"] else "did not come true"
    in_part = " in part" if 0 < len(found["better"]) < len(tried) else ""
    return f"The advice {came}{in_part}: {', '.join(parts)}."


_WORDS: Mapping[Against, str] = MappingProxyType(
    {
        "better": "ended better than",
        "worse": "ended worse than",
        "alike": "cannot be told from",
    }
)


def against(row: Standing, plain: Standing) -> Against:
    """How a row ended beside the plain sum's.

    Args:
        row: A method.
        plain: The plain sum.
    """
    if row.failed != plain.failed:
        return "worse" if row.failed > plain.failed else "better"
    ours, theirs = row.metric, plain.metric
    if ours.half_width is None or theirs.half_width is None:
        return "alike"  # one seed says nothing about the spread
    gap = ours.mean - theirs.mean
    if not row.runs[0].problem.higher_is_better:
        gap = -gap
    if abs(gap) <= ours.half_width + theirs.half_width:
        return "alike"
    return "better" if gap > 0 else "worse"


def _method(row: Standing) -> str:
    return row.balancer.partition(":")[0]


def _listed(titles: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(titles[:-1]), titles[-1]]))
