"""Pictures and views of what several metrics, static weights and prices tell."""

from __future__ import annotations

import dataclasses

import pytest

from equipoise.benchmarks.compare.other_view import other_view
from equipoise.benchmarks.compare.pictures import tasks_picture
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.rows import STATIC
from equipoise.benchmarks.compare.run import Trajectory
from equipoise.benchmarks.compare.sentences import headline, verdict
from equipoise.benchmarks.compare.statistics import standing, standings
from equipoise.benchmarks.compare.tradeoff import front, tradeoff_picture
from equipoise.benchmarks.compare.training import train
from equipoise.benchmarks.methods import parse_methods
from tests.benchmarks import tuned

OPTIONS = TrainingOptions(epochs=20, batch_size=8, lr=1e-2)


@pytest.fixture(scope="module")
def two_tasks():
    def runs_of(text):
        (method,) = parse_methods(text)
        return [
            train(tuned.problem(), method, OPTIONS, seed, lambda *_: None) for seed in (0, 1, 2)
        ]

    tried = [runs_of(f"fixed:weights={weights}") for weights in ("1/1", "1/0.01", "1/1e-6")]
    static = dataclasses.replace(standing(STATIC, tried[1], 1.0), tried=tried)
    return [
        static,
        standing("equal", runs_of("equal"), 1.0),
        standing("mtadam", runs_of("mtadam"), 2.0),
    ]


def test_the_curve_of_static_weights_stands_beside_the_methods(two_tasks):
    figure = tradeoff_picture(two_tasks)
    found = {trace.name: trace for trace in figure.data}
    assert set(found) == {
        "static weights, each trial",
        "the best static weights",
        "static",
        "plain sum",
        "mtadam",
    }
    trials = set(
        zip(
            found["static weights, each trial"].x,
            found["static weights, each trial"].y,
            strict=True,
        )
    )
    curve = set(
        zip(found["the best static weights"].x, found["the best static weights"].y, strict=True)
    )
    assert len(trials) == 3
    assert curve <= trials
    assert figure.layout.xaxis.title.text == "near error (lower is better)"


def test_each_metric_has_a_panel(two_tasks):
    figure = tasks_picture(two_tasks)
    assert [note.text for note in figure.layout.annotations] == ["near error", "far error"]
    (line,) = [trace for trace in figure.data if trace.name == "mtadam" and trace.yaxis == "y2"]
    runs = two_tasks[2].runs
    last = sum(run.metrics["far error"][-1] for run in runs) / 3
    assert line.y[-1] == pytest.approx(last)


def test_one_metric_gives_neither_picture(runs):
    rows = standings(runs, {})
    assert (tradeoff_picture(rows), tasks_picture(rows)) == (None, None)


def test_a_front_is_that_of_its_directions():
    points = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (1.0, 1.0)]
    assert front(points, (False, False)) == [(0.0, 0.0)]
    assert front(points, (True, True)) == [(1.0, 1.0)]
    assert front(points[:4], (True, True)) == [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)]
    assert front(points, (True, False)) == [(1.0, 0.0)]


def test_at_equal_time_a_method_of_twice_the_price_is_seen_half_way(two_tasks):
    view = other_view(two_tasks)
    assert view.title == "after the time of 40 plain steps"
    mtadam = two_tasks[2]
    place = mtadam.runs[0].metric_steps.index(20)
    half = sum(run.metric_curve[place] for run in mtadam.runs) / 3
    assert view.metrics["mtadam"].mean == pytest.approx(half)
    assert view.metrics["equal"].mean == pytest.approx(two_tasks[1].metric.mean)


def cut(trajectory: Trajectory, steps: int) -> Trajectory:
    points = sum(step <= steps for step in trajectory.steps)
    return Trajectory(
        trajectory.steps[:points],
        {name: values[:points] for name, values in trajectory.losses.items()},
        {name: values[:points] for name, values in trajectory.weights.items()},
    )


def test_at_equal_steps_all_are_seen_where_the_dearest_ended(two_tasks):
    timed = dataclasses.replace(OPTIONS, epochs=None, seconds=1.0)
    short = [
        dataclasses.replace(
            run,
            metric=run.metric_curve[10],
            metric_steps=run.metric_steps[:11],
            metric_curve=run.metric_curve[:11],
            metrics={name: curve[:11] for name, curve in run.metrics.items()},
            validation_curve=run.validation_curve[:11],
            trajectory=cut(run.trajectory, steps=20),
        )
        for run in two_tasks[2].runs
    ]
    rows = [two_tasks[1], standing("mtadam", short, 2.0)]
    rows = [
        dataclasses.replace(
            row,
            runs=[
                dataclasses.replace(
                    run, options=dataclasses.replace(timed, steps=run.metric_steps[-1])
                )
                for run in row.runs
            ],
        )
        for row in rows
    ]
    view = other_view(rows)
    assert view.title == "after 20 steps each"
    assert view.metrics["mtadam"].mean == pytest.approx(rows[1].metric.mean)
    assert view.metrics["equal"].mean != pytest.approx(rows[0].metric.mean)


def test_sentences_say_better_only_where_it_was_tested(two_tasks):
    _, plain, mtadam = two_tasks
    same = dataclasses.replace(mtadam, runs=plain.runs, metric=plain.metric)
    assert headline([same, plain]).startswith("mtadam cannot be told from the plain sum here: ")
    assert verdict([same, plain]).startswith(
        "Not told from the plain sum: mtadam (paired t-tests over 3 seeds"
    )
    apart = [
        dataclasses.replace(run, metric=plain.runs[i].metric - 1 - 0.01 * i)
        for i, run in enumerate(mtadam.runs)
    ]
    better = standing("mtadam", apart, 2.0)
    assert headline([better, plain]).startswith("mtadam reaches ")
    assert verdict([better, plain]).startswith("Better than the plain sum: mtadam (")
