from __future__ import annotations

from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.price.cases import REFERENCES, Knobs, method_cases
from equipoise.benchmarks.price.rounds import Contender, paired_times
from tests.benchmarks.price.tiny import tiny


def test_every_case_takes_one_turn_in_each_round_and_orders_differ():
    cases = [*REFERENCES, *method_cases([Method("equal"), Method("mtadam")], Knobs())]
    contenders = {case: Contender(tiny(2), case.build) for case in cases}
    plain = {updates: Contender(tiny(2), REFERENCES[0].build) for updates in (False, True)}
    turns: list[str] = []
    pairs = paired_times(contenders, plain, 4, turns.append)
    assert {case: len(found) for case, found in pairs.items()} == dict.fromkeys(cases, 4)
    rounds = [turns[i : i + len(cases)] for i in range(0, len(turns), len(cases))]
    assert len(rounds) == 5
    orders = {tuple(turn.partition(", ")[2] for turn in one) for one in rounds[1:]}
    assert len(orders) > 1
    assert all(sorted(order) == sorted(case.label for case in cases) for order in orders)


def test_turns_are_whole_periods_of_methods_that_rest_in_between():
    (case,) = method_cases([Method("gradnorm")], Knobs(every=(7,)))
    contender = Contender(tiny(2), case.build)
    taken: list[int] = []
    steps = contender.steps
    contender.steps = lambda count: (taken.append(count), steps(count))
    paired_times({case: contender}, {False: Contender(tiny(2), REFERENCES[0].build)}, 2, str)
    assert len(taken) == 3
    assert all(count % 7 == 0 for count in taken)
