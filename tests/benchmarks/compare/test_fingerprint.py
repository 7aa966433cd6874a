from __future__ import annotations

import dataclasses
import importlib.util
from functools import partial

import pytest
import torch

import equipoise as eq
from equipoise.benchmarks import Problem
from equipoise.benchmarks.compare import fingerprint as module
from equipoise.benchmarks.compare.fingerprint import UNKNOWN, Fingerprint, take_fingerprint
from equipoise.benchmarks.problems import PROBLEMS, find_problem
from tests.benchmarks.small import problem


def with_trial(**changes) -> Problem:
    """The small problem, with other parts of its trial."""

    def start(seed):
        trial = problem().start(seed)
        made = {name: change(trial) for name, change in changes.items()}
        return dataclasses.replace(trial, **made)

    return dataclasses.replace(problem(), start=start)


def scaled(factor: float) -> Problem:
    def change(trial):
        return lambda x: {k: factor * v for k, v in trial.compute_losses(x).items()}

    return with_trial(compute_losses=change)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_has_the_same_fingerprint_whenever_it_is_taken(name):
    first = take_fingerprint(find_problem(name), 32)
    torch.rand(3)
    assert take_fingerprint(find_problem(name), 32) == first
    assert "" not in dataclasses.astuple(first)


def test_problems_have_different_fingerprints():
    taken = [take_fingerprint(find_problem(name), 32) for name in PROBLEMS]
    assert len({found.content for found in taken}) == len(PROBLEMS)


@pytest.mark.parametrize(
    "other",
    [
        scaled(1.01),
        with_trial(data=lambda trial: (trial.data[0] + 1e-6,)),
        with_trial(data=lambda trial: (trial.data[0].double().float()[:-1],)),
        with_trial(evaluate=lambda trial: lambda: trial.evaluate() + 0.1),
        with_trial(right_weights=lambda _trial: {"near": 1.0, "far": 0.02}),
        with_trial(model=lambda _trial: torch.nn.Linear(3, 2)),
        dataclasses.replace(scaled(1.0), losses=("far", "near")),
        dataclasses.replace(scaled(1.0), higher_is_better=True),
    ],
    ids=["losses", "data", "samples", "metric", "weights", "model", "names", "direction"],
)
def test_whatever_changes_the_problem_changes_its_content(other):
    same = take_fingerprint(scaled(1.0), 8)
    assert same.content == take_fingerprint(problem(), 8).content
    assert take_fingerprint(other, 8).content != same.content


def test_what_is_only_said_about_a_problem_does_not_count():
    renamed = dataclasses.replace(problem(), description="Other words.", labels={}, lr=0.5)
    assert take_fingerprint(renamed, 8) == take_fingerprint(problem(), 8)


def test_other_source_is_another_fingerprint(tmp_path):
    path = tmp_path / "mine.py"
    taken = []
    for text in ("", "\n# changed\n"):
        path.write_text(
            "from tests.benchmarks.small import problem as small\n"
            "import dataclasses\n"
            "def start(seed): return small().start(seed)\n"
            "def problem(): return dataclasses.replace(small(), start=start)\n" + text
        )
        spec = importlib.util.spec_from_file_location("mine", path)
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        taken.append(take_fingerprint(loaded.problem(), 8))
    assert taken[1].differences(taken[0]) == ["its source"]


def test_the_files_of_all_functions_of_a_trial_are_its_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "critic_elsewhere.py"
    module.write_text("def measured(trial):\n    return lambda: trial.evaluate()\n")
    measured = importlib.import_module("critic_elsewhere").measured

    def start(seed):
        trial = problem().start(seed)
        return dataclasses.replace(trial, validate=measured(trial))

    found = dataclasses.replace(problem(), start=start)
    before = take_fingerprint(found, 8)
    module.write_text("\n" + module.read_text())
    assert take_fingerprint(found, 8).differences(before) == ["its source"]


def test_more_batches_are_other_data():
    def of_batches(count):
        def start(seed):
            trial = problem().start(seed)
            return dataclasses.replace(trial, data=[trial.data[0][:8]] * count)

        return take_fingerprint(dataclasses.replace(problem(), start=start), None).content

    assert of_batches(3) == of_batches(3) != of_batches(4)


def test_a_start_without_a_file_has_an_unknown_source():
    names: dict = {}
    exec("def start(small, seed): return small().start(seed)", names)  # noqa: S102
    found = dataclasses.replace(problem(), start=partial(names["start"], problem))
    assert take_fingerprint(found, 8).source == ""


def test_versions_and_device_belong_to_it(monkeypatch):
    before = take_fingerprint(problem(), 8)
    assert (before.equipoise, before.torch) == (eq.__version__, torch.__version__)
    assert before.device == "cpu"
    monkeypatch.setattr(module.eq, "__version__", "99")
    assert take_fingerprint(problem(), 8).differences(before) == ["equipoise"]


def test_an_unknown_fingerprint_differs_in_everything():
    assert len(take_fingerprint(problem(), 8).differences(UNKNOWN)) == 5
    assert Fingerprint().differences(UNKNOWN) == []
