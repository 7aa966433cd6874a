"""The rules name methods that exist, with the price that the registry states."""

from __future__ import annotations

from typing import get_args

import pytest

import equipoise as eq
from equipoise.monitor.diagnosis_verdict import Verdict
from equipoise.monitor.rules import RULES, Pick, choices_table, price_in_losses

PICKS = [pick for rule in RULES for pick in rule.picks]


@pytest.mark.parametrize("pick", PICKS, ids=lambda pick: pick.written)
def test_every_pick_exists_and_takes_its_options(pick):
    assert pick.method in eq.__all__
    if pick.method not in eq.optim.__all__:
        eq.create_balancer(pick.method, 3, **pick.options)
    assert pick.why


def test_every_verdict_has_one_rule_with_two_to_four_picks():
    ruled = [rule for rule in RULES if rule.verdict]
    assert sorted(rule.verdict for rule in ruled) == sorted(get_args(Verdict))
    assert all(len(rule.picks) in (2, 3, 4) for rule in ruled)


@pytest.mark.parametrize(
    ("pick", "price"),
    [
        (Pick("Equal", ""), "1 pass"),
        (Pick("GradNorm", "", {"every": 10}), "1 pass"),
        (Pick("UPGrad", ""), "T passes"),
        (Pick("UPGrad", "", {"wrt": "representation"}), "1 pass"),
        (Pick("InverseGradientNorm", ""), "T passes"),
        (Pick("MTAdam", ""), "T passes"),
    ],
)
def test_prices_are_those_of_the_registry(pick, price):
    assert price_in_losses(pick) == price


def test_the_table_has_a_row_for_each_rule():
    lines = choices_table().splitlines()
    assert len(lines) == 2 + len(RULES)
    assert all(line.count("|") == 3 for line in lines)
