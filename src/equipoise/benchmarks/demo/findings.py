"""What the demo found, in sentences that follow from its statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from equipoise.benchmarks.compare.paired import Verdict, verdicts
from equipoise.benchmarks.compare.sentences import training_words, verdict
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.demo.parts import Part
from equipoise.benchmarks.methods import FIRST_VALUES, PLAIN_SUM, RIGHT

REFERENCES: Mapping[str, str] = MappingProxyType(
    {PLAIN_SUM: "the plain sum", FIRST_VALUES: "first values", RIGHT: "the right weights"}
)
"""What every method of the demo stands beside, as sentences call it."""

_BESIDE: Mapping[Verdict, str] = MappingProxyType(
    {"better": "better than", "alike": "not told from", "worse": "worse than"}
)
_ON: Mapping[Verdict | None, str] = MappingProxyType(
    {"better": "better", "alike": "not told apart", "worse": "worse", None: "one seed, no verdict,"}
)


@dataclass(frozen=True)
class Finding:
    """What came out of one part.

    Args:
        part: What was asked.
        rows: Best first, at least one, under the names that the page has room for.
    """

    part: Part
    rows: Sequence[Standing]

    @cached_property
    def by_label(self) -> Mapping[str, Standing]:
        """The rows by the labels of their methods."""
        return {row.balancer: row for row in self.rows}

    @property
    def metric(self) -> str:
        """What is measured."""
        return self.rows[0].runs[0].problem.metric

    @property
    def references(self) -> Mapping[str, Standing]:
        """Those of `REFERENCES` that were trained here."""
        return {label: self.by_label[label] for label in REFERENCES if label in self.by_label}

    @cached_property
    def beside(self) -> Mapping[str, Verdict]:
        """How the part's method stands beside each reference, as the tables of reports test it.

        Nothing where one of the two has fewer than two seeds, which tell no methods apart.
        """
        own = self.by_label.get(self.part.method)
        return {
            label: verdicts(self.rows, row)[self.part.method]
            for label, row in self.references.items()
            if own is not None and min(len(own.runs), len(row.runs)) > 1
        }


def finding(part: Part, rows: Sequence[Standing]) -> Finding:
    """What came out of one part.

    Args:
        part: What was asked.
        rows: Best first, at least one.
    """
    named = [replace(row, title=brief(row.balancer, row.runs[0].problem.labels)) for row in rows]
    return Finding(part, named)


def brief(label: str, titles: Mapping[str, str]) -> str:
    """What a method is called where there is little room: the values of its options, unnamed.

    Args:
        label: Of the method.
        titles: What its problem calls some methods, by label.

    Returns:
        The problem's own title, where it has one.

    Example:
        >>> brief("gradnorm:alpha=0.12:scale=first_value", {})
        'gradnorm (0.12, first_value)'
    """
    name, *options = label.split(":")
    if label in titles or not options:
        return titles.get(label, label)
    return f"{name} ({', '.join(option.partition('=')[2] for option in options)})"


def sentence(found: Finding) -> str:
    """How the part's method did, beside all that it must beat.

    Args:
        found: What came out.
    """
    own = found.by_label.get(found.part.method)
    if own is None:
        return f"{found.part.method} has no finished run yet."
    said = {kind: _those(found, kind) for kind in (*_BESIDE, None)}
    words = ", ".join(
        f"{_BESIDE[kind] if kind else 'beside'} {' and '.join(those)}"
        for kind, those in said.items()
        if those
    )
    return f"{own.title} reaches {found.metric} {_mean(own)}, {words}{_best(found, own)}."


def _those(found: Finding, kind: Verdict | None) -> list[str]:
    """The references that the part's method stands so beside, with what they reached."""
    beside = found.beside
    return [
        f"{REFERENCES[name]} ({_mean(row)})"
        for name, row in found.references.items()
        if beside.get(name) == kind
    ]


def _best(found: Finding, own: Standing) -> str:
    first = found.rows[0]
    return "" if first is own else f"; the best mean is that of {first.title}, {_mean(first)}"


def _mean(row: Standing) -> str:
    if row.failures:
        return row.result
    return f"{row.metric.mean:.3f}" if abs(row.metric.mean) < 10 else f"{row.metric.mean:.0f}"


def caption(found: Finding) -> str:
    """How a part was trained, and what may be said of each of its rows.

    Args:
        found: What came out.
    """
    counts = sorted({len(row.runs) for row in found.rows})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    words = training_words(found.rows)
    return f"Trained for {words}; seeds: {seeds}. {verdict(found.rows)}"


def headline(found: Sequence[Finding]) -> str:
    """The demo in a sentence: how its methods did beside the plain sum.

    Args:
        found: Of all parts that have a result.
    """
    verdicts = [each.beside.get(PLAIN_SUM) for each in found]
    said = [f"{_ON[kind]} on {verdicts.count(kind)}" for kind in _ON if kind in verdicts]
    counted = "1 problem" if len(found) == 1 else f"{len(found)} problems"
    return f"Balancing beside the plain sum, {counted}: {', '.join(said)}"
