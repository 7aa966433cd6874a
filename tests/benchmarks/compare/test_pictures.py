from __future__ import annotations

import dataclasses

import pytest

from equipoise.benchmarks.compare.pictures import (
    losses_picture,
    metric_picture,
    ranking_picture,
    styles,
    weight_shares,
    weights_picture,
)
from equipoise.benchmarks.compare.statistics import standings


def colours_of(figure):
    return {
        trace.legendgroup: trace.line.color
        for trace in figure.data
        if trace.legendgroup and trace.fill is None
    }


def test_a_method_has_one_colour_in_all_pictures(runs):
    rows = standings(runs, {})
    expected = {label: styles(rows)[label].colour for label in ("equal", "right", "mtadam")}
    for picture in (metric_picture, losses_picture, weights_picture):
        assert colours_of(picture(rows)) == expected
    dots = {trace.y[0]: trace.marker.color for trace in ranking_picture(rows).data}
    assert dots == {row.title: expected[row.balancer] for row in rows}


def test_colours_differ_and_do_not_depend_on_the_ranking(runs):
    rows = standings(runs, {})
    many = [dataclasses.replace(rows[0], balancer=f"method{i}") for i in range(15)]
    assert styles(rows) == styles(rows[::-1])
    assert len(set(styles(many).values())) == 15 + 2


def test_the_curve_is_the_mean_over_the_seeds_with_its_band(runs):
    rows = standings(runs, {})
    figure = metric_picture(rows)
    line = next(trace for trace in figure.data if trace.name == "mtadam")
    band = next(t for t in figure.data if t.fill == "toself" and t.legendgroup == "mtadam")
    seeds = [run.metric_curve for run in runs if run.balancer == "mtadam"]
    assert line.y[-1] == pytest.approx(sum(curve[-1] for curve in seeds) / 3)
    steps = len(line.x)
    upper, lower = band.y[:steps], band.y[steps:][::-1]
    assert all(low <= mid <= high for low, mid, high in zip(lower, line.y, upper, strict=True))


def test_the_ranking_draws_each_methods_interval(runs):
    rows = standings(runs, {})
    for row, trace in zip(rows, ranking_picture(rows).data, strict=True):
        assert trace.x[0] == row.metric.mean
        assert trace.error_x.array[0] == row.metric.half_width


def test_there_is_a_panel_for_each_loss_and_a_line_for_each_method(runs):
    rows = standings(runs, {})
    for picture in (losses_picture, weights_picture):
        figure = picture(rows)
        assert [note.text for note in figure.layout.annotations] == ["near", "far"]
        assert len(figure.data) == 2 * 3
        assert sum(trace.showlegend for trace in figure.data) == 3


def test_axes_have_titles_and_say_which_direction_is_better(runs):
    rows = standings(runs, {})
    assert metric_picture(rows).layout.xaxis.title.text == "training step"
    assert metric_picture(rows).layout.yaxis.title.text == "error (lower is better)"
    assert losses_picture(rows).layout.yaxis.title.text == "loss"


def test_shares_sum_to_one_over_the_losses_that_are_there():
    shares = weight_shares({"a": [1.0, None, 2.0], "b": [3.0, 5.0, -1.0]})
    assert shares == {"a": [0.25, None, 1.0], "b": [0.75, 1.0, None]}
