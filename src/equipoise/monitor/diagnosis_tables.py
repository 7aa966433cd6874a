"""What was found, in words and tables for people, and as a dictionary for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from equipoise.monitor.advice import Advice
from equipoise.monitor.diagnosis_findings import Findings, LossFinding, PairFinding
from equipoise.monitor.diagnosis_statistics import Estimate
from equipoise.monitor.diagnosis_summary import Rows, Summary
from equipoise.monitor.diagnosis_verdict import Judgement, Thresholds, clipped, percent

MOST_PAIRS = 10
"""Rows of the table of pairs; the lowest cosines come first."""

_LOSS_HEADS = ["loss", "value", "gradient norm", "share", "Adam's share", "signal", "batches"]
_PAIR_HEADS = ["pair", "cosine", "without noise", "below zero", "more than noise", "similarity"]


def summarise(findings: Findings, judgement: Judgement, advice: Sequence[Advice]) -> Summary:
    """Puts into words and tables what was found.

    Args:
        findings: In numbers.
        judgement: The verdict.
        advice: What to try.
    """
    return Summary(
        verdict=judgement.verdict,
        sentence=judgement.sentence,
        advised=[each.method.partition("(")[0] for each in advice],
        advice=[str(each) for each in advice],
        losses=loss_rows(findings),
        pairs=pair_rows(findings) if findings.pairs else [],
        overall=overall(findings),
        notes=notes(findings),
    )


def loss_rows(findings: Findings) -> Rows:
    """The table of losses, its head first."""
    return [
        _LOSS_HEADS,
        *(
            [
                loss.name,
                number(loss.value),
                number(loss.norm) if loss.batches else "-",
                percent(loss.share if loss.batches else math.nan),
                percent(loss.adam_share if loss.batches else math.nan),
                number(loss.signal.coherence, ".2f"),
                str(loss.batches),
            ]
            for loss in findings.losses
        ),
    ]


def pair_rows(findings: Findings) -> Rows:
    """The table of pairs, its head first: those with the lowest cosines."""
    ordered = sorted(findings.pairs, key=lambda pair: (math.isnan(_key(pair)), _key(pair)))
    return [
        _PAIR_HEADS,
        *(
            [
                f"{pair.first} ~ {pair.second}",
                _interval(pair.mean_cosine),
                number(clipped(pair.cosine.value), ".2f"),
                percent(pair.below_zero),
                "yes" if pair.beyond_noise else "no",
                number(pair.magnitude_similarity, ".2f"),
            ]
            for pair in ordered[:MOST_PAIRS]
        ),
    ]


def overall(findings: Findings) -> str:
    """One line over all losses."""
    more = len(findings.pairs) - MOST_PAIRS
    line = (
        f"{findings.batches} batches; norms, largest : smallest, {number(findings.norm_ratio)}; "
        f"alignment score {number(findings.alignment, '.2f')}; "
        f"magnitude similarity {number(findings.magnitude_similarity, '.2f')}"
    )
    return f"{line}; {more} more pairs not shown" if more > 0 else line


def notes(findings: Findings) -> list[str]:
    """What to know of single losses."""
    return [note for loss in findings.losses for note in _notes_on(loss, findings.batches)]


def _notes_on(loss: LossFinding, batches: int) -> Iterator[str]:
    name = repr(loss.name)
    if loss.batches and loss.zero == loss.batches:
        yield f"{name} has a zero gradient in every batch: no weight changes anything about it."
    elif loss.zero:
        yield f"{name} has a zero gradient in {loss.zero} of {loss.batches} batches."
    if loss.apart:
        yield f"{name} shares nothing that is watched, in {loss.apart} of {batches} batches."
    if loss.nonfinite:
        yield f"{name} was not finite in {loss.nonfinite} of {batches} batches: left out there."
    if loss.graphless:
        yield f"{name} had no graph in {loss.graphless} of {batches} batches: left out there."
    if loss.negative:
        yield (
            f"{name} is negative in {loss.negative} of {batches} batches: methods that take "
            "logarithms or ratios of losses do not suit it."
        )
    absent = batches - loss.batches - loss.apart - loss.nonfinite - loss.graphless
    if absent > 0:
        yield f"{name} was not measured in {absent} of {batches} batches: absent, or alone there."


def as_dict(
    findings: Findings, judgement: Judgement, advice: Sequence[Advice], thresholds: Thresholds
) -> dict[str, object]:
    """For JSON: numbers that are not known are ``None``."""
    found = {
        "verdict": judgement.verdict,
        "sentence": judgement.sentence,
        "batches_needed": judgement.batches_needed,
        "advice": [asdict(each) for each in advice],
        "batches": findings.batches,
        "losses": {loss.name: asdict(loss) for loss in findings.losses},
        "pairs": [asdict(pair) | {"beyond_noise": pair.beyond_noise} for pair in findings.pairs],
        "norm_ratio": findings.norm_ratio,
        "alignment": findings.alignment,
        "magnitude_similarity": findings.magnitude_similarity,
        "notes": notes(findings),
        "thresholds": asdict(thresholds),
    }
    return {key: _known(value) for key, value in found.items()}


def _known(value: object) -> object:
    if isinstance(value, dict):
        return {key: _known(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_known(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: float, form: str = ".3g") -> str:
    """A number for a table; a dash where there is none."""
    return format(value, form) if math.isfinite(value) else "-"


def _key(pair: PairFinding) -> float:
    return pair.cosine.value if math.isfinite(pair.cosine.value) else pair.mean_cosine.value


def _interval(estimate: Estimate) -> str:
    spread = f" ± {estimate.half_width:.2f}" if math.isfinite(estimate.half_width) else ""
    return f"{number(estimate.value, '.2f')}{spread}"
