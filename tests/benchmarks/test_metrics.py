from __future__ import annotations

import dataclasses
import math

import pytest

from equipoise.benchmarks import DELTA_M, Metric
from equipoise.benchmarks.metrics import delta_m
from tests.benchmarks.small import problem

METRICS = (Metric("error", False, 2.0), Metric("score", True, 0.5))


def judged(**changes):
    return dataclasses.replace(problem(), **{"metrics": METRICS, **changes})


def test_delta_m_is_the_mean_gain_over_the_references_in_percent():
    assert delta_m(METRICS, {"error": 1.0, "score": 0.5}) == pytest.approx(25.0)
    assert delta_m(METRICS, {"error": 2.0, "score": 0.25}) == pytest.approx(-25.0)
    assert math.isnan(delta_m(METRICS, {"error": math.inf, "score": 0.5}))


def test_the_summary_is_the_stated_metric_or_delta_m():
    values = {"error": 1.0, "score": 0.5}
    by_name = judged(metric="score", higher_is_better=True)
    assert by_name.judge(values) == (0.5, values)
    together = judged(metric=DELTA_M, higher_is_better=True)
    assert together.judge(values) == (pytest.approx(25.0), values)


def test_a_problem_that_states_one_metric_returns_a_number():
    assert problem().judge(0.25) == (0.25, {"error": 0.25})
    with pytest.raises(ValueError, match=r"measures \['error'\]; got \['error', 'score'\]"):
        problem().judge({"error": 1.0, "score": 2.0})


def test_what_was_measured_must_be_what_was_stated():
    with pytest.raises(ValueError, match=r"measures \['error', 'score'\]; got \['error'\]"):
        judged().judge({"error": 1.0})
    with pytest.raises(ValueError, match=r"got \['error'\]"):
        judged().judge(1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "speed"}, "metric='speed' with higher_is_better=False is none of"),
        ({"metric": "score"}, "metric='score' with higher_is_better=False is none of"),
        ({"metric": DELTA_M}, "metric='Delta_m' with higher_is_better=False"),
        (
            {"metric": DELTA_M, "higher_is_better": True, "metrics": (Metric("error", False),)},
            r"reference other than 0 for each metric of 'small'; \['error'\] have none",
        ),
        ({"steps": 10}, "one of epochs and steps; got epochs=2 and steps=10"),
        ({"epochs": None}, "one of epochs and steps; got epochs=None and steps=None"),
    ],
)
def test_a_summary_that_cannot_be_taken_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        judged(**changes)
