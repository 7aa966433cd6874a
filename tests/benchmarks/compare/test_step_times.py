from __future__ import annotations

import dataclasses

from equipoise.benchmarks.compare.step_times import Prices, measure_prices
from equipoise.benchmarks.compare.timing_file import read_timing, write_timing
from equipoise.benchmarks.methods import parse_methods
from tests.benchmarks.compare.conftest import EXPERIMENT, OPTIONS
from tests.benchmarks.small import problem


def test_every_method_gets_a_positive_ratio(comparison):
    ratios = measure_prices(problem(), comparison.methods, OPTIONS, seed=0).ratios
    assert list(ratios) == ["equal", "gradnorm:every=2", "mtadam"]
    assert all(ratio > 0 for ratio in ratios.values())


def test_every_step_of_a_method_follows_one_of_the_plain_sum():
    taken = []

    def start(seed):
        trial = problem().start(seed)
        place = len(starts)
        starts.append(place)

        def compute_losses(x):
            taken.append(place)
            return trial.compute_losses(x)

        return dataclasses.replace(trial, compute_losses=compute_losses)

    starts = []
    watched = dataclasses.replace(problem(), start=start)
    measure_prices(watched, parse_methods("equal,mtadam,uncertainty"), OPTIONS, seed=0)
    plain = 3  # started after the three methods
    timed = taken[3 * 4 :]  # two steps each to warm up
    assert set(timed[::2]) == {plain}
    assert set(timed[1::2]) == {0, 1, 2}


def test_ratios_of_other_methods_stay_and_those_of_other_options_do_not(tmp_path):
    write_timing(tmp_path, EXPERIMENT, Prices({"equal": 1.0, "mtadam": 2.0}))
    write_timing(tmp_path, EXPERIMENT, Prices({"mtadam": 3.0}))
    assert read_timing(tmp_path, EXPERIMENT).ratios == {"equal": 1.0, "mtadam": 3.0}
    longer = dataclasses.replace(EXPERIMENT, options=dataclasses.replace(OPTIONS, batch_size=4))
    assert read_timing(tmp_path, longer).ratios == {}
    write_timing(tmp_path, longer, Prices({"equal": 4.0}))
    assert read_timing(tmp_path, EXPERIMENT).ratios == {}


def test_nothing_measured_is_no_ratio(tmp_path):
    assert read_timing(tmp_path, EXPERIMENT).ratios == {}
