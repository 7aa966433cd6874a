from __future__ import annotations

import json

import pytest

from equipoise.monitor.history import read_history
from equipoise.monitor.journal import Journal
from tests.monitor.test_history import entry

HEADER = {"method": "Equal", "names": ["a", "b"], "options": {"lr": 0.1}, "started": "today"}


def steps(folder) -> list[int]:
    return [found.step for found in read_history(folder).entries]


def run(folder, *numbers: int, header=HEADER, **changed) -> None:
    journal = Journal(folder)
    for step in numbers:
        journal.append(entry(step, **changed), header)


def test_a_line_is_in_the_file_when_append_returns(tmp_path) -> None:
    journal = Journal(tmp_path)
    for step in range(3):
        journal.append(entry(step), HEADER)
        assert (
            (tmp_path / "record.jsonl")
            .read_bytes()
            .endswith(entry(step).to_line().encode() + b"\n")
        )


def test_a_resumed_run_goes_on_and_says_nothing_twice(tmp_path) -> None:
    run(tmp_path, 0, 10, 20)
    run(tmp_path, 30, 40, header={**HEADER, "started": "tomorrow"})
    assert steps(tmp_path) == [0, 10, 20, 30, 40]
    assert len((tmp_path / "record.jsonl").read_text().splitlines()) == 6


def test_lines_past_the_checkpoint_go(tmp_path) -> None:
    run(tmp_path, 0, 10, 20, 30, losses=[1.0, 1.0])
    run(tmp_path, 20, losses=[5.0, 5.0])
    assert steps(tmp_path) == [0, 10, 20]
    assert read_history(tmp_path).entries[-1].losses == [5.0, 5.0]


def test_a_process_that_loads_an_older_checkpoint_goes_back(tmp_path) -> None:
    run(tmp_path, 0, 10, 20, 10)
    assert steps(tmp_path) == [0, 10]


@pytest.mark.parametrize("kept", range(0, 180, 7))
def test_a_torn_end_is_mended_wherever_it_is_torn(kept, tmp_path) -> None:
    run(tmp_path, 0, 10)
    path = tmp_path / "record.jsonl"
    whole = path.read_bytes()
    start = whole.index(b'{"step":10')
    path.write_bytes(whole[: start + min(kept, len(whole) - start - 2)])
    run(tmp_path, 10, 20)
    assert steps(tmp_path) == [0, 10, 20]
    assert read_history(tmp_path).unread == 0
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_run_that_begins_anew_sets_the_record_aside(tmp_path) -> None:
    run(tmp_path, 0, 10)
    first = (tmp_path / "record.jsonl").read_bytes()
    for number in (1, 2):
        with pytest.warns(UserWarning, match=rf"that one is record-{number}\.jsonl now"):
            run(tmp_path, 0)
    assert (tmp_path / "record-1.jsonl").read_bytes() == first
    assert steps(tmp_path) == [0]


def test_other_options_are_said_anew_and_the_run_goes_on(tmp_path) -> None:
    run(tmp_path, 0)
    run(tmp_path, 10, header={**HEADER, "options": {"lr": 0.01}})
    assert steps(tmp_path) == [0, 10]
    assert read_history(tmp_path).header["options"] == {"lr": 0.01}


def test_no_other_file_is_left_behind(tmp_path) -> None:
    run(tmp_path, 0, 10)
    run(tmp_path, 10)
    assert [file.name for file in tmp_path.iterdir()] == ["record.jsonl"]
