"""What a claim expects, held against what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.evidence.claim import Claim, Expected, Relation

from equipoise.benchmarks.compare.paired import Difference, Verdict, difference, holm, relation
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.methods import PLAIN_SUM

HOLDS, NOT_SHOWN, FAILS = "holds", "not shown", "does not hold"
"""Not shown is what these seeds do not tell: that a test finds no difference is no evidence that
there is none."""

RETAINED = 0.9
"""How much of what the other row gains over the plain sum one that is "no worse" must gain."""


@dataclass(frozen=True)
class Judged:
    """One expectation beside what was found.

    Args:
        expected: As it is written in the claim.
        found: What may be said in its place.
        difference: The row less the other one, with its interval.
        margin: A difference that counts as none, in the metric's units; empty where none is needed.
        outcome: `HOLDS`, `NOT_SHOWN` or `FAILS`.
    """

    expected: str
    found: str
    difference: str
    margin: str
    outcome: str


def judge(claim: Claim, rows: Sequence[Standing]) -> list[Judged]:
    """All expectations of a claim together: their p-values are corrected for being several.

    Args:
        claim: The claim.
        rows: All rows of its comparison.

    Returns:
        One for each expectation, in order.

    Raises:
        ValueError: If the claim speaks of a row that is not there.
    """
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
        _one(expected, relation(*pair, each, p), each, _margin(claim, pair[1], by_label), pair)
        for expected, pair, each, p in zip(claim.expected, pairs, found, tested, strict=True)
    ]


def _margin(claim: Claim, other: Standing, by_label: Mapping[str, Standing]) -> float:
    """The claim's own, or what the other row may lose of its gain over the plain sum."""
    if claim.margin is not None:
        return claim.margin
    gain = difference(other, by_label[PLAIN_SUM])
    return (1 - RETAINED) * max(0.0, _gained(gain, other)) if gain.interval.count else 0.0


def _gained(gap: Difference, row: Standing) -> float:
    """The mean of a difference, positive where it is in favour of the row."""
    return gap.interval.mean if row.runs[0].problem.higher_is_better else -gap.interval.mean


def _one(
    expected: Expected,
    found: Verdict,
    gap: Difference,
    margin: float,
    pair: tuple[Standing, Standing],
) -> Judged:
    if expected.relation in ("better than", "worse than"):
        outcome = _contrast(expected.relation.removesuffix(" than"), found)
        return Judged(str(expected), found, str(gap), "", outcome)
    outcome = _likeness(expected.relation, found, gap, margin, pair)
    return Judged(str(expected), found, str(gap), f"{margin:.3g}", outcome)


def _contrast(wanted: str, found: Verdict) -> str:
    if found == "alike":
        return NOT_SHOWN
    return HOLDS if found == wanted else FAILS


def _likeness(
    wanted: Relation,
    found: Verdict,
    gap: Difference,
    margin: float,
    pair: tuple[Standing, Standing],
) -> str:
    """Shown by an interval that keeps to the margin, not by a test that finds no difference."""
    no_worse, no_better = _bounded(gap, margin, *pair)
    if wanted == "no worse than" and (no_worse or found == "better"):
        return HOLDS
    if wanted == "level with" and no_worse and no_better:
        return HOLDS
    return NOT_SHOWN if found == "alike" else FAILS


def _bounded(gap: Difference, margin: float, row: Standing, other: Standing) -> tuple[bool, bool]:
    """Whether the whole interval is above the lower margin, and below the upper one."""
    half_width = gap.interval.half_width
    if row.failed != other.failed or half_width is None:
        return False, False
    gained = _gained(gap, row)
    return gained - half_width > -margin, gained + half_width < margin
