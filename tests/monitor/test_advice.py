"""Advice follows the verdict, names its price, and spares what does not suit the losses."""

from __future__ import annotations

import pytest

import equipoise as eq
from equipoise.monitor.rules import RULES
from tests.monitor.problems import KINDS, SETTINGS


@pytest.mark.parametrize(
    "kind", ["scale, linear", "conflict, linear", "both, linear", "noise, pure", "fine, linear"]
)
def test_advice_is_that_of_the_verdicts_rule(kind):
    verdict, build = KINDS[kind]
    diagnosis = eq.diagnose(*build(SETTINGS[2], 0))
    (rule,) = (rule for rule in RULES if rule.verdict == verdict)
    # Losses that may become negative are not divided by their first values.
    wanted = [pick.written for pick in rule.picks if kind != "noise, pure" or not pick.positive]
    assert [advice.method for advice in diagnosis.advice] == wanted


def test_the_price_is_that_of_as_many_losses():
    diagnosis = eq.diagnose(*KINDS["conflict, linear"][1](SETTINGS[3], 0))
    passes = {advice.method: advice.passes for advice in diagnosis.advice}
    assert passes == {"UPGrad": 10, "PCGrad": 10, 'CAGrad(wrt="representation")': 1}
    assert str(diagnosis.advice[0]).startswith("UPGrad (10 backward passes a step): ")
