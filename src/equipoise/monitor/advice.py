"""Advice: what to try after a verdict, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from equipoise.monitor.diagnosis_findings import Findings
from equipoise.monitor.diagnosis_verdict import Judgement, Verdict
from equipoise.monitor.rules import RULES, Pick


@dataclass(frozen=True)
class Advice:
    """A method to try.

    Attributes:
        method: As it stands in code, without the losses.
        passes: Backward passes through the shared part of the model, where the plain sum has 1.
        why: What it does about what was found.
    """

    method: str
    passes: int
    why: str

    def __str__(self) -> str:
        """The advice in a line."""
        passes = f"{self.passes} backward pass{'' if self.passes == 1 else 'es'}"
        return f"{self.method} ({passes} a step): {self.why}"


def advise(judgement: Judgement, findings: Findings) -> tuple[Advice, ...]:
    """What to try, by the rule of the verdict.

    Args:
        judgement: The verdict.
        findings: What it rests on: a method that needs positive losses is not named where some are
            not, none where nothing can be balanced.
    """
    if len(findings.judged) < 2 and judgement.verdict != "fine":
        return ()  # not even the plain sum is advised on what was never seen
    positive = not any(loss.negative or loss.value <= 0 for loss in findings.losses)
    picks = [pick for pick in _picks(judgement.verdict) if positive or not pick.positive]
    if len(findings.judged) < 2:
        picks = picks[:1]
    losses = len(findings.losses)
    return tuple(Advice(pick.written, pick.passes(losses), pick.why) for pick in picks)


def _picks(verdict: Verdict) -> Iterator[Pick]:
    for rule in RULES:
        if rule.verdict == verdict:
            yield from rule.picks
