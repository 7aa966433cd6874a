from __future__ import annotations

import json
import math

import pytest

from equipoise.monitor.entry import Entry
from equipoise.monitor.history import RecordError, read_history


def entry(step: int = 0, **changed) -> Entry:
    numbers = {"losses": [1.0, 2.0], "weights": [1.0, 0.5], "priorities": [1.0, 1.0]}
    return Entry(step=step, time=0.0, present=[0, 1], skipped=[0.0, 0.0], **(numbers | changed))


HEADER = json.dumps({"method": "Equal", "names": ["a", "b"]})


def write(folder, *lines: str) -> None:
    (folder / "record.jsonl").write_text("".join(lines))


@pytest.mark.parametrize("number", [1.5, math.inf, -math.inf, math.nan, 1e-300])
def test_a_line_gives_the_entry_back_whatever_its_numbers(number) -> None:
    kept = entry(losses=[number, 1.0], norms=[number, 2.0], cosines=[number], measured=True)
    line = kept.to_line()
    json.loads(line, parse_constant=pytest.fail)  # JSON that every reader takes
    assert repr(Entry.from_json(json.loads(line))) == repr(kept)


def test_shares_are_parts_of_the_applied_length_of_the_losses_that_are_there() -> None:
    assert entry(norms=[3.0, 2.0]).shares() == [0.75, 0.25]
    assert entry().shares() is None
    assert entry(norms=[3.0, math.nan]).shares() is None
    absent = Entry(
        0, 0.0, [1.0, math.nan], [0], [2.0, 0.0], [1.0, 1.0], [0.0, 0.0], [3.0, math.nan]
    )
    assert absent.shares()[0] == 1.0
    assert math.isnan(absent.shares()[1])


def test_a_torn_end_is_passed_over_and_lines_in_the_midst_are_counted(tmp_path) -> None:
    lines = [HEADER, entry(0).to_line(), "{nonsense", '{"step": 3}', "[]", entry(4).to_line()]
    write(tmp_path, "\n".join(lines), "\n", entry(6).to_line()[:-9])
    history = read_history(tmp_path)
    assert [found.step for found in history.entries] == [0, 4]
    assert history.unread == 3


def test_fields_of_later_versions_are_passed_over(tmp_path) -> None:
    line = json.dumps({**json.loads(entry(0).to_line()), "mood": "good"})
    write(tmp_path, HEADER, "\n", line, "\n")
    assert read_history(tmp_path).entries == [entry(0)]


def test_of_a_step_that_stands_twice_the_later_counts(tmp_path) -> None:
    write(
        tmp_path,
        *(
            f"{line}\n"
            for line in (HEADER, entry(0).to_line(), entry(0, losses=[9.0, 9.0]).to_line())
        ),
    )
    (found,) = read_history(tmp_path).entries
    assert found.losses == [9.0, 9.0]


@pytest.mark.parametrize("content", [None, "", "\x00\x00\x00", "{"])
def test_a_folder_without_a_record_is_refused_in_a_sentence(content, tmp_path) -> None:
    if content is not None:
        write(tmp_path, content)
    with pytest.raises(
        RecordError, match=r"record\.jsonl holds no record yet; `equipoise\.Recorder"
    ):
        read_history(tmp_path)
