"""Whether the advice came true follows from the ranking's intervals."""

from __future__ import annotations

import dataclasses

import pytest

from equipoise.benchmarks.compare.paired import verdicts
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.compare.statistics import standing as row_of
from equipoise.benchmarks.diagnose.outcome import outcome
from equipoise.monitor.diagnosis_summary import Summary


def summary(*advised: str) -> Summary:
    return Summary("scale", "Because.", list(advised), [], [["loss"]], [], "", [])


@pytest.fixture
def standing(runs):
    """A row of the error, lower is better, over three seeds of which none failed.

    The seeds of the plain sum rise where those of all others fall, so that differences spread.
    """

    def build(label: str, mean: float, half_width: float | None = 0.1) -> Standing:
        spread = (half_width or 0.0) * (1 if label == "equal" else -1) * 3**0.5 / 4.303
        own = [
            dataclasses.replace(run, balancer=label, metric=mean + (run.seed - 1) * spread)
            for run in runs
            if run.balancer == "equal"
        ]
        return row_of(label, own if half_width else own[:1], 1.0)

    return build


def against(row: Standing, plain: Standing) -> str:
    return verdicts([row, plain], plain)[row.balancer]


@pytest.mark.parametrize(
    ("mean", "half_width", "expected"),
    [(0.5, 0.1, "better"), (1.5, 0.1, "worse"), (0.9, 0.1, "alike"), (0.1, None, "alike")],
)
def test_only_clear_differences_tell_methods_apart(standing, mean, half_width, expected):
    assert against(standing("gradnorm", mean, half_width), standing("equal", 1.0)) == expected


def test_a_metric_where_more_is_better_is_read_the_other_way(standing):
    def turned(row: Standing) -> Standing:
        problem = dataclasses.replace(row.runs[0].problem, higher_is_better=True)
        return dataclasses.replace(
            row, runs=[dataclasses.replace(run, problem=problem) for run in row.runs]
        )

    assert against(turned(standing("gradnorm", 0.5)), turned(standing("equal", 1.0))) == "worse"


def test_failed_runs_are_worse_whatever_the_others_reached(standing):
    row = standing("gradnorm", 0.1)
    failed = [dataclasses.replace(row.runs[0], failure="diverged"), *row.runs[1:]]
    assert against(dataclasses.replace(row, runs=failed), standing("equal", 1.0)) == "worse"


def test_methods_that_were_advised_are_held_against_the_plain_sum(standing):
    advice = summary("FirstValue", "GradNorm", "MTAdam")
    rows = [standing("firstvalue", 0.5), standing("equal", 1.0), standing("pcgrad", 0.1)]
    assert outcome(advice, rows) == (
        "The advice came true: firstvalue ended better than the plain sum."
    )
    mixed = [*rows, standing("gradnorm:alpha=0.12", 2.0), standing("mtadam", 1.0)]
    assert outcome(advice, mixed) == (
        "The advice came true in part: firstvalue ended better than the plain sum, "
        "gradnorm:alpha=0.12 ended worse than the plain sum, "
        "mtadam cannot be told from the plain sum."
    )
    assert "did not come true" in outcome(advice, [standing("gradnorm", 2.0), rows[1]])


def test_the_plain_sum_as_advice_is_wrong_if_something_was_clearly_better(standing):
    advice = summary("Equal", "GradNorm")
    plain = standing("equal", 1.0)
    assert "came true: no method" in outcome(advice, [plain, standing("gradnorm", 1.0)])
    assert "gradnorm ended better" in outcome(advice, [standing("gradnorm", 0.5), plain])


def test_what_was_not_compared_is_not_known(standing):
    advice = summary("GradNorm")
    assert "plain sum was not compared" in outcome(advice, [standing("gradnorm", 1.0)])
    assert "no method of it" in outcome(advice, [standing("equal", 1.0)])
    assert "nothing was compared" in outcome(summary("Equal"), [standing("equal", 1.0)])
