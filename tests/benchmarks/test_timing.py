from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch

from equipoise.benchmarks.bench.cases import REFERENCES, Knobs, method_cases
from equipoise.benchmarks.bench.contender import ModelContender
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.timing import Contender, Match, clock, paired_times
from tests.benchmarks.bench.tiny import tiny

CPU = torch.device("cpu")


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


@dataclass
class Machine:
    """Tells the time by what was done on it; how slow it is changes from step to step."""

    slowness: Callable[[int], float]
    turns: list[tuple[str, int]] = field(default_factory=list)


class Scripted(Contender):
    """A step of known length, on such a machine."""

    def __init__(self, name: str, seconds: float, machine: Machine, period: int = 1) -> None:
        super().__init__(CPU, period)
        self.name, self.seconds, self.machine = name, seconds, machine

    def prepare(self, count: int) -> Callable[[], object]:
        return lambda: self.machine.turns.append((self.name, count))

    def seconds_per_step(self, count: int) -> float:
        self.steps(count)
        return self.seconds * self.machine.slowness(len(self.machine.turns))


def price(own: float, machine: Machine, period: int = 1) -> list[float]:
    match = Match(Scripted("own", own, machine, period), Scripted("plain", 1e-3, machine))
    return [pair.ratio for pair in paired_times({"own": match}, 3, str)["own"]]


@pytest.mark.parametrize("factor", [1.0, 1.5, 4.0])
@pytest.mark.parametrize(
    "slowness",
    [lambda _: 1.0, lambda turn: 1 + turn / 50, lambda turn: 3.0 if (turn // 101) % 2 else 1.0],
    ids=["idle", "ever slower", "busy now and then"],
)
def test_a_price_is_the_same_on_a_machine_that_is_busy(factor, slowness):
    ratios = price(factor * 1e-3, Machine(slowness))
    assert ratios == pytest.approx([factor] * 3, rel=0.05)


def test_steps_alternate_with_plain_ones_in_whole_periods():
    machine = Machine(lambda _: 1.0)
    price(1e-3, machine, period=7)
    assert {count for _, count in machine.turns} == {7}
    names = [name for name, _ in machine.turns[4:]]  # after the warm-up
    assert names == ["plain", "own"] * (len(names) // 2)
    assert len(names) == 3 * 2 * 8  # 0.05 s are 8 periods of 7 ms


def test_one_thread_of_a_cpu_is_timed_by_what_it_was_given_of_the_machine():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert clock(CPU) is time.process_time
        assert clock(torch.device("cuda")) is time.perf_counter
        torch.set_num_threads(2)
        assert clock(CPU) is time.perf_counter
    finally:
        torch.set_num_threads(threads)
