from __future__ import annotations

import dataclasses

import pytest

from equipoise.benchmarks.compare import fingerprint
from equipoise.benchmarks.compare.checking import check, outdated
from equipoise.benchmarks.compare.comparison import compare
from equipoise.benchmarks.compare.report import read_standings
from equipoise.benchmarks.compare.results import Results
from equipoise.benchmarks.compare.timing_file import FILE_NAME, read_timing
from equipoise.benchmarks.methods import parse_methods
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks.compare.conftest import OPTIONS
from tests.benchmarks.small import problem


class Notes:
    """Writes down what it is told, and stops the comparison after some runs."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.runs = []
        self.to_do = None

    def planned(self, to_do, done):
        self.to_do = len(to_do) if self.to_do is None else self.to_do

    def timing(self):
        pass

    def started(self, cell):
        if len(self.runs) == self.stop_after:
            raise KeyboardInterrupt

    def stepped(self, cell, step, metric):
        pass

    def finished(self, cell, run):
        self.runs.append((run.balancer, run.seed))


ALL = [(label, seed) for seed in (0, 1) for label in ("equal", "gradnorm:every=2", "mtadam")]


def test_runs_go_seed_by_seed_and_are_kept_with_their_prices(comparison):
    notes = Notes()
    compare(comparison, notes)
    assert notes.runs == ALL
    kept = Results(comparison.folder).read()
    assert [(run.balancer, run.seed) for run in kept] == ALL
    assert set(read_timing(comparison.folder, comparison.experiment).ratios) == {
        label for label, _ in ALL
    }


@pytest.mark.parametrize("stop_after", [0, 3, 5])
def test_a_stopped_comparison_continues_and_ends_as_an_uninterrupted_one(
    comparison, tmp_path, stop_after
):
    with pytest.raises(KeyboardInterrupt):
        compare(comparison, Notes(stop_after))
    stopped = Results(comparison.folder).path
    before = stopped.read_bytes() if stopped.exists() else b""
    notes = Notes()
    compare(comparison, notes)
    assert notes.runs == ALL[stop_after:]
    assert stopped.read_bytes().startswith(before)

    uninterrupted = dataclasses.replace(comparison, folder=tmp_path / "at_once")
    compare(uninterrupted, Notes())
    continued, at_once = (
        [dataclasses.replace(run, seconds=0.0) for run in Results(folder).read()]
        for folder in (comparison.folder, uninterrupted.folder)
    )
    assert continued == at_once


def test_a_finished_comparison_runs_nothing_again(comparison):
    compare(comparison, Notes())
    notes = Notes()
    compare(comparison, notes)
    assert (notes.to_do, notes.runs) == (0, [])


def test_prices_are_measured_again_where_their_file_was_deleted_and_no_run_is(comparison):
    compare(comparison, Notes())
    (comparison.folder / FILE_NAME).unlink()
    notes = Notes()
    compare(comparison, notes)
    assert (notes.to_do, notes.runs) == (0, [])
    assert len(read_timing(comparison.folder, comparison.experiment).ratios) == 3


def test_other_options_are_other_runs(comparison):
    compare(comparison, Notes())
    notes = Notes()
    compare(dataclasses.replace(comparison, options=dataclasses.replace(OPTIONS, lr=0.5)), notes)
    assert notes.runs == ALL


def rescaled(factor):
    """The same problem by name and options, with losses of another scale."""

    def start(seed):
        trial = problem().start(seed)
        losses_of = trial.compute_losses
        scaled = lambda x: {name: factor * loss for name, loss in losses_of(x).items()}  # noqa: E731
        return dataclasses.replace(trial, compute_losses=scaled)

    return dataclasses.replace(problem(), start=start)


def test_a_problem_whose_loss_scale_changed_is_run_again(comparison):
    compare(dataclasses.replace(comparison, problem=rescaled(1.0)), Notes())
    changed = dataclasses.replace(comparison, problem=rescaled(1000.0))
    assert outdated(changed) == (
        "6 finished runs are of an earlier small (its data or losses differ); they are kept, and "
        "do not count here."
    )
    notes = Notes()
    compare(changed, notes)
    assert notes.runs == ALL
    assert len(Results(comparison.folder).read()) == 12
    (run,) = {row.runs[0].experiment for row in read_standings(comparison.folder)}
    assert run == changed.experiment


def test_results_count_again_once_the_problem_is_what_it_was(comparison):
    first = dataclasses.replace(comparison, problem=rescaled(1.0))
    for one in (first, dataclasses.replace(comparison, problem=rescaled(1000.0))):
        compare(one, Notes())
    notes = Notes()
    again = dataclasses.replace(comparison, problem=rescaled(1.0))
    compare(again, notes)
    assert (notes.to_do, notes.runs) == (0, [])
    rows = read_standings(comparison.folder, again.experiment)
    assert {row.runs[0].experiment for row in rows} == {first.experiment}


def test_results_of_another_version_are_run_again(comparison, monkeypatch):
    compare(comparison, Notes())
    monkeypatch.setattr(fingerprint.eq, "__version__", "99")
    newer = dataclasses.replace(comparison)
    assert "(equipoise differ)" in outdated(newer)
    notes = Notes()
    compare(newer, notes)
    assert notes.runs == ALL


def test_nothing_is_outdated_where_nothing_changed(comparison):
    assert outdated(comparison) == ""
    compare(comparison, Notes())
    assert outdated(dataclasses.replace(comparison)) == ""


def test_a_torn_last_line_is_run_again(comparison):
    compare(comparison, Notes())
    results = Results(comparison.folder)
    content = results.path.read_bytes()
    results.path.write_bytes(content[:-40])
    notes = Notes()
    compare(comparison, notes)
    assert notes.runs == ALL[-1:]
    assert len(results.read()) == 6


def test_check_tells_the_length_of_a_run(comparison):
    assert check(comparison) == 6


def test_check_meets_a_method_that_cannot_train_before_anything_is_run(comparison):
    def start(seed):
        trial = comparison.problem.start(seed)
        near, far, *_ = trial.model.parameters()
        apart = {"near": near.square().sum(), "far": far.square().sum()}
        return dataclasses.replace(trial, compute_losses=lambda *_: apart)

    problem = dataclasses.replace(comparison.problem, start=start)
    methods = parse_methods("equal,upgrad")
    wrong = dataclasses.replace(comparison, problem=problem, methods=methods)
    with pytest.raises(RequestError, match=r"upgrad cannot train small: .*share"):
        check(wrong)
    assert not comparison.folder.exists()
