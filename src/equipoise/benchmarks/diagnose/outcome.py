"""Whether the advice of a diagnosis came true in a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from equipoise.benchmarks.compare.paired import Verdict, verdicts
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.methods import PLAIN_SUM, RIGHT
from equipoise.monitor.diagnosis_summary import Summary


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
    # All rows are one family of tests, as in the rest of the page.
    found = verdicts(rows, plain)
    if PLAIN_SUM in [name.lower() for name in summary.advised]:
        return _of_plain_sum(found, others)
    tried = [row for row in others if _method(row) in map(str.lower, summary.advised)]
    if not tried:
        return "Whether the advice came true is not known: no method of it was compared."
    return _of_methods(found, tried)


def _of_plain_sum(verdict: Mapping[str, Verdict], others: Sequence[Standing]) -> str:
    if not others:
        return "Whether the advice came true is not known: nothing was compared with the plain sum."
    better = [row.title for row in others if verdict[row.balancer] == "better"]
    if better:
        return f"The advice, the plain sum, did not come true: {_listed(better)} ended better."
    return "The advice came true: no method ended clearly better than the plain sum."


def _of_methods(verdict: Mapping[str, Verdict], tried: Sequence[Standing]) -> str:
    found: dict[Verdict, list[str]] = {"better": [], "worse": [], "alike": []}
    for row in tried:
        found[verdict[row.balancer]].append(row.title)
    parts = [
        f"{_listed(those)} {_WORDS[how]} the plain sum" for how, those in found.items() if those
    ]
    came = "came true" if found["better"] else "did not come true"
    in_part = " in part" if 0 < len(found["better"]) < len(tried) else ""
    return f"The advice {came}{in_part}: {', '.join(parts)}."


_WORDS: Mapping[Verdict, str] = MappingProxyType(
    {
        "better": "ended better than",
        "worse": "ended worse than",
        "alike": "cannot be told from",
    }
)


def _method(row: Standing) -> str:
    return row.balancer.partition(":")[0]


def _listed(titles: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(titles[:-1]), titles[-1]]))
