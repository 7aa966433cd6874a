"""A problem is diagnosed at its first batches; what was found is kept beside its results."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from equipoise.benchmarks import Problem, Trial
from equipoise.benchmarks.compare.diagnosis import diagnosed
from equipoise.benchmarks.diagnose.kept import FILE_NAME, read_diagnosis, write_diagnosis
from equipoise.benchmarks.diagnose.page import write_page
from equipoise.benchmarks.diagnose.problem import diagnose_problem
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks.compare.conftest import EXPERIMENT, OPTIONS
from tests.benchmarks.small import problem


def test_a_problem_is_diagnosed_as_a_comparison_starts_it():
    first = diagnose_problem(problem(), OPTIONS, seed=0)
    again = diagnose_problem(problem(), OPTIONS, seed=0)
    assert first.batches == 6  # two epochs of three batches
    assert first.to_dict() == again.to_dict()
    assert first.to_dict() != diagnose_problem(problem(), OPTIONS, seed=1).to_dict()


def test_losses_of_different_scale_are_found():
    def start(seed: int) -> Trial:
        trial = problem().start(seed)

        def compute_losses(x):
            error = trial.compute_losses(x)["near"]
            return {"near": error, "far": 300 * error}

        return dataclasses.replace(trial, compute_losses=compute_losses)

    scaled = dataclasses.replace(problem(), start=start)
    assert diagnose_problem(scaled, OPTIONS, seed=0).verdict == "scale"


def lonely() -> Problem:
    """A problem with one loss."""

    def start(_seed: int) -> Trial:
        model = nn.Linear(3, 1)
        return Trial(model, (torch.randn(24, 3),), lambda x: {"only": model(x).mean()}, lambda: 0.0)

    return dataclasses.replace(problem(), losses=("only",), start=start)


def test_a_problem_that_cannot_be_diagnosed_says_why():
    with pytest.raises(RequestError, match="small cannot be diagnosed: `names` has one loss"):
        diagnose_problem(lonely(), OPTIONS, seed=0)


def test_a_problem_that_cannot_be_diagnosed_can_be_compared(comparison):
    sentence = diagnosed(dataclasses.replace(comparison, problem=lonely()))
    assert "cannot be diagnosed" in sentence
    assert not (comparison.folder / FILE_NAME).exists()


def test_what_was_found_is_kept_for_the_same_experiment_alone(tmp_path):
    summary = diagnose_problem(problem(), OPTIONS, seed=0).summary
    write_diagnosis(tmp_path, EXPERIMENT, summary)
    assert read_diagnosis(tmp_path, EXPERIMENT) == summary
    other = dataclasses.replace(EXPERIMENT, problem="large")
    assert read_diagnosis(tmp_path, other) is None
    assert read_diagnosis(tmp_path / "elsewhere", EXPERIMENT) is None


@pytest.mark.parametrize("content", ["", "{}", '{"experiment": 3}', "\x00"])
def test_a_file_that_holds_something_else_is_refused_and_stays(tmp_path, content):
    path = tmp_path / FILE_NAME
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RequestError, match="correct or delete it"):
        read_diagnosis(tmp_path, EXPERIMENT)
    assert path.read_text(encoding="utf-8") == content


def test_the_page_stands_alone(tmp_path):
    found = diagnose_problem(problem(), OPTIONS, seed=0)
    page = write_page(tmp_path / "new", problem(), found).read_text(encoding="utf-8")
    assert "Two lines &amp; one &lt;plane&gt;." in page
    assert "default-src 'none'" in page
    assert f"<strong>{found.verdict}</strong>" in page
    assert 'aria-label="Gradient norms' in page


def test_a_page_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    found = diagnose_problem(problem(), OPTIONS, seed=0)
    with pytest.raises(RequestError, match="cannot be written"):
        write_page(tmp_path / "file", problem(), found)
