from __future__ import annotations

import dataclasses
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.benchmarks.compare.statistics import mean_curve, mean_interval, standings

# Student's t at 97.5 %, from the printed tables.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262}


@pytest.mark.parametrize("freedom", TABLE)
def test_interval_is_students_with_the_tables_quantile(freedom):
    values = [math.sin(i) for i in range(freedom + 1)]
    interval = mean_interval(values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    assert interval.mean == pytest.approx(statistics.mean(values))
    assert interval.half_width == pytest.approx(TABLE[freedom] * error, rel=1e-3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8), st.floats(-1e3, 1e3))
def test_a_shift_moves_the_mean_and_leaves_the_width(values, shift):
    before, after = mean_interval(values), mean_interval([value + shift for value in values])
    assert after.mean == pytest.approx(before.mean + shift, abs=1e-6)
    assert after.half_width == pytest.approx(before.half_width, rel=1e-6, abs=1e-6)


def test_one_seed_has_no_interval_and_says_so():
    assert mean_interval([0.5]).half_width is None
    assert str(mean_interval([0.5])) == "0.500"


def test_values_that_were_not_finite_are_left_out():
    assert mean_interval([0.5, None, 0.7]).count == 2
    assert str(mean_interval([None])) == "not finite"


def test_a_curve_is_averaged_step_by_step():
    curve = mean_curve([1, 2], [[1.0, None], [3.0, None]])
    assert curve.steps == [1, 2]
    assert curve.means[0] == 2.0
    assert math.isnan(curve.means[1])
    assert curve.half_widths[0] == pytest.approx(12.706, rel=1e-3)


def test_the_best_stands_first_in_the_problems_own_direction(runs):
    lower = [row.metric.mean for row in standings(runs, {})]
    assert lower == sorted(lower)
    upwards = dataclasses.replace(runs[0].problem, higher_is_better=True)
    higher = standings([dataclasses.replace(run, problem=upwards) for run in runs], {})
    assert [row.metric.mean for row in higher] == lower[::-1]


def test_a_method_without_a_finite_metric_stands_last(runs):
    broken = [
        dataclasses.replace(run, metric=None) if run.balancer == "right" else run for run in runs
    ]
    assert standings(broken, {})[-1].balancer == "right"


def test_a_row_carries_its_title_its_price_and_the_weights_it_ended_at(runs):
    rows = {row.balancer: row for row in standings(runs, {"equal": 1.5})}
    assert rows["equal"].title == "plain sum"
    assert rows["equal"].relative_time == 1.5
    assert rows["mtadam"].relative_time is None
    assert rows["right"].final_weights == pytest.approx({"near": 1.0, "far": 0.01})
    assert len(rows["mtadam"].runs) == 3
