from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.statistics import standings
from equipoise.benchmarks.compare.training import train
from equipoise.benchmarks.demo.paths import path_of, paths_picture
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.problems.descent import SOLVED, beale, beale_parts


def value(place) -> float:
    return float(sum(beale_parts(*torch.tensor(place)).values()))


def test_a_path_is_that_of_the_run_itself(descents):
    for run in (run for run in descents if not run.failed):
        path = path_of(beale(), run)
        assert len(path) == run.options.steps + 1
        assert value(path[-1]) == pytest.approx(run.metrics["function value"][-1], rel=1e-5)


def test_a_path_ends_at_the_minimum_where_the_run_got_there():
    options = TrainingOptions(epochs=None, batch_size=None, lr=3e-2, steps=400)
    run = train(beale(), Method("equal"), options, 1, watch=lambda *_: None)
    path = path_of(beale(), run)
    assert len(path) == run.metric + 1 < options.steps
    assert value(path[-1]) < SOLVED <= value(path[-2])


def test_a_diverging_run_has_a_path_too():
    options = TrainingOptions(epochs=None, batch_size=None, lr=10.0, steps=30)
    run = train(beale(), Method("equal"), options, 0, watch=lambda *_: None)
    assert run.failed
    assert len(path_of(beale(), run)) == 31


def test_all_rows_start_at_one_point_of_the_picture(descents):
    rows = standings(descents, {})
    figure = paths_picture(rows)
    paths = [trace for trace in figure.data if trace.type == "scatter" and len(trace.x) > 1]
    assert {trace.name for trace in paths} == {row.legend for row in rows}
    assert len({(trace.x[0], trace.y[0]) for trace in paths}) == 1
    assert [trace.type for trace in figure.data].count("contour") == 1
