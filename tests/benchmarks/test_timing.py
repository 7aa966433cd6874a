from __future__ import annotations

from equipoise.benchmarks.bench.cases import REFERENCES, Knobs, method_cases
from equipoise.benchmarks.bench.contender import ModelContender
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.timing import Match, paired_times
from tests.benchmarks.bench.tiny import tiny


def test_every_case_takes_one_turn_in_each_round_and_orders_differ():
    cases = [*REFERENCES, *method_cases([Method("equal"), Method("mtadam")], Knobs())]
    plain = ModelContender(tiny(2), REFERENCES[0].build)
    matches = {case: Match(ModelContender(tiny(2), case.build), plain) for case in cases}
    turns: list[str] = []
    pairs = paired_times(matches, 4, turns.append)
    assert {case: len(found) for case, found in pairs.items()} == dict.fromkeys(cases, 4)
    rounds = [turns[i : i + len(cases)] for i in range(0, len(turns), len(cases))]
    assert len(rounds) == 5
    orders = {tuple(turn.partition(", ")[2] for turn in one) for one in rounds[1:]}
    assert len(orders) > 1
    assert all(sorted(order) == sorted(case.label for case in cases) for order in orders)


def test_turns_are_whole_periods_of_methods_that_rest_in_between():
    (case,) = method_cases([Method("gradnorm")], Knobs(every=(7,)))
    contender = ModelContender(tiny(2), case.build, case.every)
    taken: list[int] = []
    prepare = contender.prepare
    contender.prepare = lambda count: (taken.append(count), prepare(count))[1]
    plain = ModelContender(tiny(2), REFERENCES[0].build)
    paired_times({case: Match(contender, plain)}, 2, str)
    assert len(taken) == 3
    assert all(count % 7 == 0 for count in taken)
