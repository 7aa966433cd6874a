"""Methods are held against each other seed by seed."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from equipoise.benchmarks.compare.goal import reached
from equipoise.benchmarks.compare.paired import difference, holm, ranks, verdicts
from equipoise.benchmarks.compare.statistics import standing


@pytest.fixture
def row(runs):
    """A row of the error with these values, one for each seed; `None` for a run that failed."""

    def build(label, values):
        own = [
            dataclasses.replace(
                runs[0],
                balancer=label,
                seed=seed,
                metric=value,
                failure="diverged" if value is None else None,
            )
            for seed, value in enumerate(values)
        ]
        return standing(label, own, 1.0)

    return build


def test_a_difference_that_seeds_have_in_common_is_seen_through_their_spread(row):
    plain, other = row("equal", [1.0, 2.0, 3.0, 4.0]), row("a", [0.9, 1.91, 2.9, 3.89])
    assert abs(plain.metric.mean - other.metric.mean) < plain.metric.half_width
    found = difference(other, plain)
    assert found.clear
    assert found.interval.mean == pytest.approx(-0.1)
    expected = stats.ttest_rel([0.9, 1.91, 2.9, 3.89], [1.0, 2.0, 3.0, 4.0]).pvalue
    assert found.p_value == pytest.approx(expected)


def test_seeds_on_which_one_failed_are_no_pairs(row):
    found = difference(row("a", [1.0, None, 3.0]), row("equal", [2.0, 5.0, 4.0]))
    assert (found.interval.count, found.interval.mean) == (2, -1.0)
    assert difference(row("a", [None]), row("equal", [1.0])).p_value is None


def test_rows_that_cannot_be_told_apart_have_the_same_ranks(row):
    best, close = row("a", [1.0, 2.0, 3.0]), row("b", [1.1, 2.1, 2.95])
    last = row("c", [5.0, 6.1, 7.0])
    assert ranks([best, close, last]) == ["1-2", "1-2", "3"]
    failed = row("d", [0.1, None, 0.1])
    assert ranks([best, close, last, failed])[-1] == "4"


def test_one_seed_is_ranked_by_its_number(row):
    assert ranks([row("a", [1.0]), row("b", [2.0])]) == ["1", "2"]


def test_among_many_methods_one_that_is_better_by_chance_is_not_called_better(row):
    plain = row("equal", [1.0, 2.0, 3.0, 4.0])
    lucky = row("lucky", [0.9, 1.8, 2.85, 3.7])
    noise = [row(f"n{i}", [1.1, 1.9, 3.2, 3.8]) for i in range(9)]
    alone = verdicts([lucky, plain], plain)["lucky"]
    among = verdicts([lucky, *noise, plain], plain)["lucky"]
    assert (alone, among) == ("better", "alike")
    sure = row("sure", [0.9, 1.91, 2.9, 3.89])
    assert verdicts([sure, plain], plain)["sure"] == "better"


def test_what_fails_more_often_is_worse_whatever_it_reached(row):
    plain = row("equal", [1.0, 2.0, 3.0])
    assert verdicts([row("a", [0.1, 0.1, None]), plain], plain) == {"a": "worse"}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_the_raw_and_bonferroni(p_values):
    found = holm(p_values)
    for raw, corrected in zip(p_values, found, strict=True):
        assert raw <= corrected <= min(1.0, len(p_values) * max(p_values)) + 1e-12
    assert sorted(zip(p_values, found, strict=True)) == sorted(
        zip(sorted(p_values), sorted(found), strict=True)
    )


def test_failed_seeds_did_not_reach_the_goal(row):
    found = reached(row("a", [0.5, 1.0, None, 2.0]), 1.0)
    assert (found.hits, found.seeds) == (2, 4)
    low, high = found.interval
    # Wilson's formula, written out.
    z, n, p = 1.959964, 4, 0.5
    centre, width = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert low == pytest.approx((centre - width) / (1 + z * z / n), abs=1e-5)
    assert high == pytest.approx((centre + width) / (1 + z * z / n), abs=1e-5)
