from __future__ import annotations

import dataclasses
import json

import pytest

from equipoise.benchmarks.compare.results import Results
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.refusal import RequestError


def test_a_run_reads_back_as_it_was_written(runs):
    for run in runs:
        assert Run.from_line(run.to_line()) == run
        assert "\n" not in run.to_line()


def test_lines_are_strict_json_even_where_a_value_was_not_finite(runs):
    run = dataclasses.replace(runs[0], metric=None)
    assert json.loads(run.to_line(), parse_constant=pytest.fail)["metric"] is None


def test_a_tear_at_any_byte_loses_only_the_run_that_was_being_written(tmp_path, runs):
    results = Results(tmp_path)
    results.append(runs[0])
    whole = results.path.read_bytes()
    line = runs[1].to_line().encode() + b"\n"
    for kept in [*range(0, len(line) - 1, 97), len(line) - 2]:
        results.path.write_bytes(whole + line[:kept])
        assert results.read() == runs[:1]
        results.append(runs[2])
        assert results.read() == [runs[0], runs[2]]
        assert results.path.read_bytes().startswith(whole)


def test_a_line_that_lacks_only_its_end_is_kept_and_completed(tmp_path, runs):
    results = Results(tmp_path)
    results.path.write_text(runs[0].to_line())
    assert results.read() == runs[:1]
    assert results.repair()
    assert results.path.read_text() == runs[0].to_line() + "\n"
    assert not results.repair()


def test_a_torn_character_is_no_run(tmp_path, runs):
    results = Results(tmp_path)
    results.append(runs[0])
    with results.path.open("ab") as file:
        file.write('{"problem":"é'.encode()[:-1])
    assert results.read() == runs[:1]
    assert results.repair()


def test_a_broken_line_in_the_middle_is_named(tmp_path, runs):
    results = Results(tmp_path)
    results.path.write_text(f"{runs[0].to_line()}\n{{broken\n{runs[1].to_line()}\n")
    with pytest.raises(RequestError, match="line 2"):
        results.read()


def test_a_line_of_something_else_is_named(tmp_path):
    results = Results(tmp_path)
    results.path.write_text('{"a": 1}\n[]\n')
    with pytest.raises(RequestError, match="line 1"):
        results.read()


def test_a_run_that_stands_twice_counts_once(tmp_path, runs):
    results = Results(tmp_path)
    later = dataclasses.replace(runs[0], seconds=99.0)
    for run in (runs[0], runs[1], later):
        results.append(run)
    assert results.read() == [later, runs[1]]


def test_an_absent_file_has_no_runs(tmp_path):
    assert Results(tmp_path / "nowhere").read() == []
    assert not Results(tmp_path / "nowhere").repair()
