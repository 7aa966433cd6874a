"""A comparison that chooses and retrains goes in stages, each known from the runs before."""

from __future__ import annotations

import dataclasses

import pytest

from equipoise.benchmarks.compare.checking import check
from equipoise.benchmarks.compare.comparison import Comparison, compare
from equipoise.benchmarks.compare.gathering import gather
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.results import Results
from equipoise.benchmarks.compare.rows import rows_of
from equipoise.benchmarks.compare.search import Search
from equipoise.benchmarks.compare.step_times import Prices
from equipoise.benchmarks.compare.timing_file import read_timing, write_timing
from equipoise.benchmarks.methods import parse_methods
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks import small, tuned
from tests.benchmarks.compare.test_comparison import Notes

OPTIONS = TrainingOptions(epochs=2, batch_size=8, lr=1e-2)
SEARCH = Search(rates=(1e-2, 1e-1), static=3, retrain=True, tuning_seeds=2)


@pytest.fixture
def comparison(tmp_path):
    return Comparison(
        problem=tuned.problem(),
        methods=parse_methods("equal,gradnorm:alpha=0|1.5"),
        seeds=(0, 1, 2),
        options=OPTIONS,
        folder=tmp_path / "out",
        search=SEARCH,
    )


def result(comparison):
    prices = read_timing(comparison.folder, comparison.experiment)
    seeds = comparison.seeds
    tuning_seeds = comparison.search.seeds_for_choosing(seeds)
    rows = comparison.rows(prices)
    found = gather(rows, comparison.finished(), seeds, tuning_seeds, prices)
    return {row.balancer: row for row in found}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    comparison = Comparison(
        problem=tuned.problem(),
        methods=parse_methods("equal,gradnorm:alpha=0|1.5"),
        seeds=(0, 1, 2),
        options=OPTIONS,
        folder=tmp_path_factory.mktemp("stages"),
        search=SEARCH,
    )
    compare(comparison, Notes())
    return comparison


def test_variants_are_tried_on_some_seeds_and_the_chosen_one_on_all(finished):
    runs = Results(finished.folder).read()
    # 2 + 4 + 6 variants on two seeds, three of them on the third, two retrained on three.
    assert len(runs) == 2 * (2 + 4 + 6) + 3 + 2 * 3
    rows = result(finished)
    assert all([run.seed for run in row.runs] == [0, 1, 2] for row in rows.values())
    assert set(rows) == {
        "equal",
        "gradnorm:alpha=0|1.5",
        "static",
        "gradnorm:alpha=0|1.5 (mean weights retrained)",
        "gradnorm:alpha=0|1.5 (last weights retrained)",
    }


def test_what_is_chosen_is_best_on_validation_data_whatever_it_is_on_test_data(finished):
    for row in result(finished).values():
        tried = [[run for run in runs if run.seed < 2] for runs in row.tried if runs]
        means = [sum(run.validation for run in runs) / 2 for runs in tried]
        own = sum(run.validation for run in row.runs if run.seed < 2) / 2
        assert own == min(means)
        assert row.metric.mean == pytest.approx(sum(run.metric for run in row.runs) / 3)


def test_retrained_weights_are_those_of_the_run_with_the_same_seed(finished):
    rows = result(finished)
    source = rows["gradnorm:alpha=0|1.5"].runs
    for which, last in (("mean", 1.0), ("last", 0.25)):
        again = rows[f"gradnorm:alpha=0|1.5 ({which} weights retrained)"].runs
        for one, other in zip(source, again, strict=True):
            assert one.options == other.options
            for name, weights in one.trajectory.weights.items():
                wanted = weights[-max(1, round(last * len(weights))) :]
                expected = sum(wanted) / len(wanted)
                assert other.trajectory.weights[name][0] == pytest.approx(expected, rel=1e-5)


def test_trials_count_as_compute(finished):
    prices = Prices({"equal": 1.0, "gradnorm:alpha=0": 2.0, "gradnorm:alpha=1.5": 2.0,
        "fixed:weights=1/1": 1.0})  # fmt: skip
    write_timing(finished.folder, finished.experiment, prices)
    rows = result(finished)
    assert rows["equal"].compute == pytest.approx((2 * 2 + 1) / 3)
    assert rows["static"].compute == pytest.approx((6 * 2 + 1) / 3)
    gradnorm = 2 * (4 * 2 + 1) / 3
    assert rows["gradnorm:alpha=0|1.5"].compute == pytest.approx(gradnorm)
    again = rows["gradnorm:alpha=0|1.5 (last weights retrained)"]
    assert again.compute == pytest.approx(gradnorm + 1)
    assert rows["static"].choice.endswith("; of 6")


@pytest.mark.parametrize("stop_after", [1, 20, 25, 30])
def test_a_comparison_stopped_in_any_stage_ends_as_one_in_one_go(comparison, finished, stop_after):
    with pytest.raises(KeyboardInterrupt):
        compare(comparison, Notes(stop_after))
    compare(comparison, Notes())
    one, other = (
        [dataclasses.replace(run, seconds=0.0) for run in Results(each.folder).read()]
        for each in (comparison, finished)
    )
    assert one == other


def test_more_static_trials_later_repeat_none(finished):
    more = dataclasses.replace(SEARCH, static=5)
    notes = Notes()
    found = dataclasses.replace(finished, search=more)
    compare(found, notes)
    assert notes.to_do == 2 * 2 * 2


def test_a_row_that_is_not_chosen_yet_has_no_result(comparison):
    alone = dataclasses.replace(comparison, methods=parse_methods("gradnorm:alpha=0|1.5"))
    alone = dataclasses.replace(alone, search=Search())
    with pytest.raises(KeyboardInterrupt):
        compare(alone, Notes(stop_after=1))
    assert not alone.has_result()
    with pytest.raises(KeyboardInterrupt):
        compare(alone, Notes(stop_after=1))
    assert alone.has_result()


def test_choosing_without_validation_data_is_refused(comparison):
    without = dataclasses.replace(comparison, problem=small.problem())
    with pytest.raises(RequestError, match="small has no validation data to choose"):
        check(without)


def test_equal_time_gives_steps_by_price():
    options = TrainingOptions(epochs=None, batch_size=8, lr=1e-2, seconds=0.3)
    prices = Prices({"equal": 1.0, "gradnorm": 5.0, "fixed:weights=1/1": 1.0}, plain_step=0.01)
    methods = parse_methods("equal,gradnorm")
    search = Search(static=2, retrain=True)
    rows = rows_of(methods, options, search, ["near", "far"], prices)
    steps = {row.label: {variant.options.steps for variant in row.variants} for row in rows}
    assert steps == {
        "equal": {30},
        "gradnorm": {6},
        "static": {30},
        "gradnorm (mean weights retrained)": {30},
        "gradnorm (last weights retrained)": {30},
    }
    assert {variant.options.seconds for row in rows for variant in row.variants} == {0.3}


def test_a_comparison_at_equal_time_is_continued_with_the_prices_it_began_with(comparison):
    options = TrainingOptions(epochs=None, batch_size=8, lr=1e-2, seconds=0.02)
    timed = dataclasses.replace(comparison, options=options, search=Search())
    timed = dataclasses.replace(timed, methods=parse_methods("equal,mtadam"))
    compare(timed, Notes())
    again = Notes()
    compare(timed, again)
    assert (again.to_do, len(Results(timed.folder).read())) == (0, 6)
