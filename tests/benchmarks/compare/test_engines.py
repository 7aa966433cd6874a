"""Whoever trains, the same runs come out, and none is lost or doubled."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import signal
import sys
from collections import Counter

import pytest

from equipoise.benchmarks.compare.comparison import Comparison, compare
from equipoise.benchmarks.compare.engines.cluster import Cluster
from equipoise.benchmarks.compare.engines.engine import Assignment
from equipoise.benchmarks.compare.engines.processes import Processes
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.results import Results
from equipoise.benchmarks.methods import parse_methods
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks import tuned
from tests.benchmarks.compare.test_comparison import Notes

HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.fixture
def comparison(tmp_path):
    return Comparison(
        problem=tuned.problem(),
        methods=parse_methods("equal,mtadam"),
        seeds=(0, 1, 2),
        options=TrainingOptions(epochs=2, batch_size=8, lr=1e-2),
        folder=tmp_path / "out",
    )


def assignment(comparison, problem="tests.benchmarks.tuned:problem"):
    return Assignment(
        problem=problem,
        optimizer="",
        fingerprint=comparison.experiment.fingerprint,
        threads=1,
        path=tuple(sys.path),
    )


def runs_of(comparison):
    """Without what differs from run to run: the time they took, and in which order they ended."""
    runs = [dataclasses.replace(run, seconds=0.0) for run in Results(comparison.folder).read()]
    return sorted(runs, key=lambda run: (run.seed, run.balancer))


def in_process(comparison, tmp_path):
    here = dataclasses.replace(comparison, folder=tmp_path / "here")
    compare(here, Notes())
    return runs_of(here)


class Killer(Notes):
    """Kills one of the processes in the middle of its run."""

    def __init__(self, engine, at_start):
        super().__init__()
        self.engine, self.at_start, self.begun = engine, at_start, 0

    def started(self, cell):
        self.begun += 1
        if self.begun == self.at_start:
            os.kill(self.engine.team[0].process.pid, signal.SIGKILL)


def test_a_killed_process_changes_nothing_of_what_this_process_leaves(comparison, tmp_path):
    engine = Processes(assignment(comparison), workers=2)
    killer = Killer(engine, at_start=5)
    compare(comparison, killer, engine)
    lines = Results(comparison.folder).path.read_text().splitlines()
    assert len(lines) == 6
    assert set(Counter(killer.runs).values()) == {1}
    assert runs_of(comparison) == in_process(comparison, tmp_path)


def test_a_run_that_ends_its_process_again_and_again_is_named(comparison, tmp_path, monkeypatch):
    deaths = tmp_path / "deaths"
    deaths.write_text("9")
    monkeypatch.setenv("EQUIPOISE_TEST_DEATHS", str(deaths))
    deadly = dataclasses.replace(comparison, problem=tuned.deadly_problem())
    engine = Processes(assignment(deadly, "tests.benchmarks.tuned:deadly_problem"), workers=1)
    with pytest.raises(RequestError, match=r"equal, seed 1, ended its process 3 times"):
        compare(deadly, Notes(), engine)
    assert {run.seed for run in Results(deadly.folder).read()} == {0}
    assert engine.team == []


def test_an_error_of_the_problem_comes_back_with_its_traceback(comparison):
    engine = Processes(assignment(comparison, "tests.benchmarks.small:not_a_problem"), workers=1)
    with pytest.raises(RuntimeError, match=r"(?s)equal, seed 0, .*not an equipoise.benchmarks"):
        compare(comparison, Notes(), engine)


@pytest.mark.skipif(not HAS_RAY, reason="ray is not installed")
def test_a_cluster_leaves_the_results_that_this_process_leaves(comparison, tmp_path):
    compare(comparison, Notes(), Cluster(assignment(comparison)))
    assert runs_of(comparison) == in_process(comparison, tmp_path)


@pytest.mark.skipif(not HAS_RAY, reason="ray is not installed")
def test_a_cluster_repeats_what_a_killed_process_was_training(comparison, tmp_path, monkeypatch):
    deaths = tmp_path / "deaths"
    deaths.write_text("2")
    monkeypatch.setenv("EQUIPOISE_TEST_DEATHS", str(deaths))
    deadly = dataclasses.replace(comparison, problem=tuned.deadly_problem())
    compare(deadly, Notes(), Cluster(assignment(deadly, "tests.benchmarks.tuned:deadly_problem")))
    assert deaths.read_text() == "0"
    assert len(Results(deadly.folder).path.read_text().splitlines()) == 6
    assert [run.seed for run in runs_of(deadly)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.skipif(HAS_RAY, reason="ray is installed")
def test_without_ray_it_says_what_to_install(comparison):
    with pytest.raises(RequestError, match=r"equipoise\[ray\]"):
        Cluster(assignment(comparison))
