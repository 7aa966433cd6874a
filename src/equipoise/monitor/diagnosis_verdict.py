"""The verdict: scale, conflict, both, noise or fine; and the sentence that says why."""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal, TypeAlias

from equipoise.monitor.diagnosis_findings import Findings, LossFinding, PairFinding
from equipoise.monitor.diagnosis_statistics import FEWEST

Verdict: TypeAlias = Literal["scale", "conflict", "both", "noise", "fine"]


@dataclass(frozen=True)
class Thresholds:
    """What counts as a finding.

    Attributes:
        scale: Norms differ in scale from this ratio of the largest to the smallest on. At the
            default of 10 the smaller of two gradients is a tenth of the larger, and their
            magnitude similarity (Yu et al. 2020, arXiv 2001.06782) is 0.2 of a possible 1.
        conflict: Gradients conflict from this cosine down: that of the true gradients, or of the
            batches where the true ones are lost in noise. Yu et al. call every negative cosine a
            conflict; at the default of -0.5 two unit gradients undo so much of each other that
            their sum is shorter than either of them.
        noise: How large the noise of the mean gradient may be, squared, against its signal,
            squared. The default of 1 is where the two are equal: the simple noise scale of
            McCandlish et al. 2018 (arXiv 1812.06162), counted in batches.
        confidence: Of intervals; what is called a conflict, or told from noise, is so with it.
    """

    scale: float = 10.0
    conflict: float = -0.5
    noise: float = 1.0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Refuses thresholds that nothing or everything passes."""
        bounds = {
            "scale": (1.0, math.inf, "a ratio of norms, above 1"),
            "conflict": (-1.0, 0.0, "a cosine, between -1 and 0"),
            "noise": (0.0, math.inf, "a ratio of squared norms, above 0"),
            "confidence": (0.5, 1.0, "a probability, between 0.5 and 1"),
        }
        for name, (low, high, meaning) in bounds.items():
            given = getattr(self, name)
            if not low < given < high:
                msg = f"`{name}` is {meaning}; got {given!r}."
                raise ValueError(msg)


@dataclass(frozen=True)
class Judgement:
    """The verdict and what it rests on.

    Attributes:
        verdict: In a word.
        sentence: In a sentence.
        conflicts: The pairs that conflict.
        batches_needed: How many batches would do, where these do not; infinite if more would not
            help, or nobody can tell.
    """

    verdict: Verdict
    sentence: str
    conflicts: tuple[PairFinding, ...] = ()
    batches_needed: float = 0.0


_NOTHING_SHARED = (
    "The losses share nothing, so no weight of one can help or harm another: keep the plain sum."
)


def judge(findings: Findings, thresholds: Thresholds) -> Judgement:
    """Judges what was found.

    Losses without a gradient to speak of (zero, absent, with nothing shared) are nobody's rivals:
    the others are judged.

    Args:
        findings: Of at least one batch.
        thresholds: What counts.
    """
    if len(findings.judged) < 2:
        return _nothing_to_compare(findings)
    # Two gradients that may both be nothing but noise have no angle, whatever is estimated.
    known = {loss.name for loss in findings.judged if loss.signal.along.low > 0}
    conflicts = tuple(pair for pair in findings.pairs if _conflicts(pair, known, thresholds))
    scaled = findings.norm_ratio >= thresholds.scale
    if scaled and conflicts:
        sentence = f"{_scale(findings)}, and {_conflict(conflicts, thresholds)}."
        return Judgement("both", _capital(sentence), conflicts)
    if conflicts:
        sentence = f"{_conflict(conflicts, thresholds)}; norms differ by no more than a factor of "
        return Judgement("conflict", _capital(f"{sentence}{findings.norm_ratio:.3g}."), conflicts)
    unsettled = [loss for loss in findings.judged if not loss.signal.is_told(thresholds.noise)]
    if scaled:
        return Judgement("scale", _capital(f"{_scale(findings)}{_beside(unsettled)}."))
    # No conflict was found here, so a cosine as low as one is in doubt.
    doubtful = tuple(pair for pair in findings.pairs if pair.cosine.value <= thresholds.conflict)
    if unsettled or doubtful:
        return _noise(findings, unsettled, doubtful, thresholds)
    return Judgement("fine", _fine(findings))


def _nothing_to_compare(findings: Findings) -> Judgement:
    """Fewer than two losses have gradients: nothing to balance, or not enough batches to know."""
    measured = [loss for loss in findings.losses if loss.batches > loss.zero]
    if sum(loss.counts for loss in measured) > 1:
        return Judgement("fine", _NOTHING_SHARED)
    if len(measured) > 1:
        have = max(loss.batches - loss.zero for loss in measured)
        sentence = f"No verdict from so few batches: {have} with gradients, at least {FEWEST} are "
        return Judgement("noise", f"{sentence}needed, 10 to 20 are better.", batches_needed=10)
    if any(loss.batches for loss in findings.losses) and not measured:
        sentence = "Every gradient is zero, so nothing can be told: check that the losses depend "
        return Judgement("noise", f"{sentence}on what is watched.", batches_needed=math.inf)
    if not any(loss.batches for loss in findings.losses):
        return _never_measured(findings)
    sentence = f"Only {measured[0].name!r} has a gradient where losses meet"
    return Judgement("fine", f"{sentence}: there is nothing to balance. Keep the plain sum.")


def _never_measured(findings: Findings) -> Judgement:
    if any(loss.apart for loss in findings.losses):
        return Judgement("fine", _NOTHING_SHARED)
    sentence = "No batch had two losses with finite gradients, so nothing can be compared."
    return Judgement("noise", sentence, batches_needed=math.inf)


def _scale(findings: Findings) -> str:
    named = {loss.name: loss for loss in findings.judged}
    widest = min(findings.pairs, key=lambda pair: pair.magnitude_similarity)
    both = (named[widest.first], named[widest.second])
    small, large = sorted(both, key=lambda loss: loss.norm)
    return (
        f"the gradient of {large.name!r} is {findings.norm_ratio:.3g} times as long as that of "
        f"{small.name!r}, which has {percent(small.share)} of the gradient"
    )


def _beside(unsettled: list[LossFinding]) -> str:
    if not unsettled:
        return ""
    called = _listed([loss.name for loss in unsettled])
    return f"; where {called} would go is lost in noise, so a conflict cannot be excluded"


def _conflicts(pair: PairFinding, known: AbstractSet[str], thresholds: Thresholds) -> bool:
    """Whether two true gradients conflict; or those of the batches, unless the true ones agree."""
    told = {pair.first, pair.second} <= known
    if told and pair.cosine.value <= thresholds.conflict and pair.product.high < 0:
        return True
    agree = told and pair.product.low > 0
    return not agree and _opposed_in_batches(pair, thresholds)


def _opposed_in_batches(pair: PairFinding, thresholds: Thresholds) -> bool:
    """Whether the gradients of nearly every batch conflict, wherever the true ones go.

    Noise of each loss's own makes cosines of either sign. Where all are negative, samples that pull
    one loss down push the other up, though over many batches either may go nowhere.
    """
    all_by_chance = 0.5**pair.batches  # with a single parameter, cosines are signs
    return (
        pair.mean_cosine.high <= thresholds.conflict and all_by_chance <= 1 - thresholds.confidence
    )


def _conflict(conflicts: tuple[PairFinding, ...], thresholds: Thresholds) -> str:
    in_batches = [pair for pair in conflicts if _opposed_in_batches(pair, thresholds)]
    if in_batches:
        worst = min(in_batches, key=lambda pair: pair.mean_cosine.value)
        cosine = f"{clipped(worst.mean_cosine.value):.2f} in the mean of the batches"
    else:
        worst = min(conflicts, key=lambda pair: pair.cosine.value)
        cosine = f"{clipped(worst.cosine.value):.2f} without noise"
    others = len(conflicts) - 1
    more = "" if not others else f" ({others} more pair{'s' if others > 1 else ''})"
    return (
        f"the gradients of {worst.first!r} and {worst.second!r} point against each other{more}: "
        f"cosine {cosine}"
    )


def _noise(
    findings: Findings,
    unsettled: list[LossFinding],
    doubtful: tuple[PairFinding, ...],
    thresholds: Thresholds,
) -> Judgement:
    needed = [loss.signal.batches_needed(thresholds.noise) for loss in unsettled]
    # A doubtful cosine is settled when its interval, which shrinks with the root, leaves out zero.
    needed += [
        math.ceil(findings.batches * (pair.product.half_width / pair.product.value) ** 2)
        if math.isfinite(pair.product.half_width)
        else 2 * findings.batches
        for pair in doubtful
    ]
    # Never fewer than were not enough: the estimate is as uncertain as what it is made of.
    most = max(*needed, findings.batches + 1)
    what = (
        f"where {_listed([loss.name for loss in unsettled])} would go is lost in noise"
        if unsettled
        else f"whether {doubtful[0].first!r} and {doubtful[0].second!r} conflict is lost in noise"
    )
    sentence = f"It cannot be told from {findings.batches} batches: {what}. {_would_do(most)}"
    return Judgement("noise", sentence, batches_needed=most)


def _would_do(batches: float) -> str:
    if batches > 10_000:
        return "More than 10000 batches would be needed: what differs between batches is all."
    return f"About {batches:.0f} batches would do, or larger ones."


def _fine(findings: Findings) -> str:
    lowest = min(findings.pairs, key=lambda pair: pair.cosine.value, default=None)
    sentence = f"norms differ by a factor of {findings.norm_ratio:.3g}"
    if lowest is not None and math.isfinite(lowest.cosine.value):
        sentence += f" and the lowest cosine is {clipped(lowest.cosine.value):.2f}"
    return _capital(f"{sentence}: keep the plain sum.")


def clipped(cosine: float) -> float:
    """A cosine for people: an estimate may lie a little beyond one."""
    return min(max(cosine, -1.0), 1.0)


def percent(share: float) -> str:
    """A share for people, its small values too; a dash where there is none."""
    if 0 < share < 0.01:
        return "< 0.01%" if share < 1e-4 else f"{share:.2%}"
    return f"{share:.0%}" if math.isfinite(share) else "-"


def _listed(names: list[str]) -> str:
    called = [repr(name) for name in names[:3]]
    if len(names) > 3:
        called.append(f"{len(names) - 3} more")
    return " and ".join([", ".join(called[:-1]), called[-1]]) if len(called) > 1 else called[0]


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
