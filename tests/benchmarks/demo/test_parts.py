from __future__ import annotations

import pytest

from equipoise.benchmarks.compare.outline import outline, stated
from equipoise.benchmarks.compare.plan import Plan
from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.demo.parts import PARTS
from equipoise.benchmarks.methods import FIRST_VALUES, PLAIN_SUM, RIGHT
from equipoise.benchmarks.problems import find_problem

EACH = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)


def read(plan: Plan):
    return outline(stated(plan, find_problem(plan.problem)))


@EACH
def test_the_plain_sum_first_values_and_known_right_weights_stand_beside_every_method(part):
    labels = {method.label for method in read(part.plan).methods}
    known = start_trial(find_problem(part.plan.problem), 0).right_weights is not None
    assert {PLAIN_SUM, FIRST_VALUES, part.method} <= labels
    assert (RIGHT in labels) == known


@EACH
def test_seeds_are_enough_for_intervals(part):
    assert len(read(part.plan).seeds) >= 5


@EACH
def test_a_shortened_part_has_the_same_methods_and_other_runs(part):
    short, long = read(part.shortened("2", 4).plan), read(part.plan)
    assert short.methods == long.methods
    assert (short.seeds, short.options.steps, short.options.epochs) == ((0, 1), 4, None)
    assert part.shortened(None, None) == part


def test_no_two_parts_share_a_folder():
    assert len({part.name for part in PARTS}) == len(PARTS) == 4
