"""Results that a crash or another program has spoilt: one line each, and nothing is lost."""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.benchmarks.compare.comparison import Comparison
from equipoise.benchmarks.compare.run import Run
from equipoise.cli import main
from tests.benchmarks.compare.conftest import train_some


def good() -> dict:
    return json.loads(GOOD)


def changed(path: str, value: object) -> bytes:
    """A good line with another value at a place."""
    line = good()
    *places, last = path.split(".")
    target = line
    for place in places:
        target = target[place]
    target[last] = value
    return json.dumps(line).encode() + b"\n"


def lacking(path: str) -> bytes:
    line = good()
    *places, last = path.split(".")
    target = line
    for place in places:
        target = target[place]
    del target[last]
    return json.dumps(line).encode() + b"\n"


(RUN,) = train_some("equal", seeds=1)
GOOD = RUN.to_line()
LINE = GOOD.encode() + b"\n"
LONG = [0.5] * 99

MALFORMED = {
    "empty file": b"",
    "blank lines": b"\n\n",
    "binary junk": bytes(range(256)),
    "zeros": bytes(4096),
    "another format": b"balancer,metric\nequal,0.5\n",
    "UTF-16": GOOD.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + LINE,
    "only a truncated line": LINE[:200],
    "truncated within a file": LINE[:200] + b"\n" + LINE,
    "junk behind good lines": LINE + b"\x00\xff\x00",
    "two objects on a line": GOOD.encode() + LINE,
    "a list": b"[]\n",
    "a number": b"1\n",
    "null": b"null\n",
    "an empty object": b"{}\n",
    "an empty object at the end": LINE + b"{}",
    "deep lists": b"[" * 100_000 + b"\n",
    "deep objects": b'{"problem":' * 100_000 + b"\n",
    "deep in a good line": changed("seconds", 1.0)[:-2] + b',"x":' + b"[" * 100_000 + b"\n",
    "NaN": GOOD.replace('"seconds":', '"seconds":NaN,"s":').encode() + b"\n",
    "NaN at the end": GOOD.replace('"seconds":', '"seconds":NaN,"s":').encode(),
    "infinity": GOOD.replace('"seconds":', '"seconds":Infinity,"s":').encode() + b"\n",
    "too large a number": GOOD.replace('"seconds":', '"seconds":1e999,"s":').encode() + b"\n",
    "a huge whole number": GOOD.replace('"seed":0', '"seed":1' + 5000 * "0").encode() + b"\n",
    "no metric": lacking("metric"),
    "no trajectory": lacking("trajectory"),
    "no losses": lacking("trajectory.losses"),
    "no name": lacking("problem.name"),
    "a metric that is text": changed("metric", "0.5"),
    "a metric that is a list": changed("metric", [0.5]),
    "a metric that its curve does not end at": changed("metric", 0.123),
    "a seed that is text": changed("seed", "0"),
    "a problem that is text": changed("problem", "small"),
    "options that are a list": changed("options", []),
    "an option out of range": changed("options.epochs", 0),
    "labels that are numbers": changed("problem.labels", {"equal": 1}),
    "a name of half a character": changed("problem.name", "\ud800"),
    "an unknown entry": changed("surprise", 1),
    "no loss at all": changed("trajectory.losses", {}),
    "a loss without weights": changed("trajectory.weights", {"near": [1.0] * 6}),
    "losses that are a list": changed("trajectory.losses", []),
    "a loss that is a number": changed("trajectory.losses.near", 1.0),
    "a loss of another length": changed("trajectory.losses.near", LONG),
    "a loss with text in it": changed("trajectory.losses.near", ["1.0"] * 6),
    "weights in lists in lists": changed("trajectory.weights.far", [[1.0]] * 6),
    "a curve of another length": changed("metric_curve", LONG),
    "an empty curve": changed("metric_curve", []),
    "steps that fall": changed("trajectory.steps", [6, 5, 4, 3, 2, 1]),
    "steps that are fractions": changed("trajectory.steps", [0.5, 1, 2, 3, 4, 5]),
    "runs at other steps": LINE
    + changed("seed", 1).replace(b'"steps": [1, 2, 3, 4, 5, 6]', b'"steps": [1, 2, 3, 4, 5, 7]'),
    "runs with other losses": LINE + changed("seed", 1).replace(b'"near"', b'"close"'),
    "runs with another metric": LINE
    + changed("problem.metric", "gain").replace(b'"seed": 0', b'"seed": 1'),
}


def report(folder: Path) -> tuple[int, str]:
    err = StringIO()
    with redirect_stderr(err):
        code = main(["report", str(folder)])
    return code, err.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_malformed_results_get_one_line_and_exit_code_2_and_stay_as_they_are(tmp_path, content):
    (tmp_path / "results.jsonl").write_bytes(content)
    (tmp_path / "report.html").write_text("the page of yesterday")
    before = contents(tmp_path)
    code, err = report(tmp_path)
    assert code == 2, err
    assert len(err.splitlines()) == 1
    assert "results.jsonl" in err
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"problem": "small"}',
        b'{"problem":"small","options":{"epochs":2,"batch_size":8,"lr":0.01},"ratios":{"a":"1"}}',
        b"[" * 100_000,
        b"\xff",
    ],
    ids=range(7),
)
def test_malformed_timings_get_one_line_and_exit_code_2(tmp_path, content):
    (tmp_path / "results.jsonl").write_bytes(LINE)
    (tmp_path / "timing.json").write_bytes(content)
    before = contents(tmp_path)
    code, err = report(tmp_path)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "timing.json cannot be read" in err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["results.jsonl", "timing.json", "report.html"])
def test_a_folder_in_the_place_of_a_file_gets_one_line(tmp_path, name):
    (tmp_path / "results.jsonl").write_bytes(LINE)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    code, err = report(tmp_path)
    assert (code, len(err.splitlines())) == (2, 1)
    assert name in err


def test_every_faulty_line_is_named(tmp_path):
    (tmp_path / "results.jsonl").write_bytes(LINE + b"x\n" + LINE + b"[]\n{}\n")
    code, err = report(tmp_path)
    assert code == 2
    assert "line 2 cannot be read (no JSON" in err
    assert "nor can line 4, 5; correct or delete these lines." in err


def test_a_comparison_stops_at_malformed_results_and_adds_nothing(comparison: Comparison):
    comparison.folder.mkdir()
    path = comparison.folder / "results.jsonl"
    path.write_bytes(LINE + b"[]")
    request = ["compare", "tests.benchmarks.small:problem", "--seeds", "1"]
    err = StringIO()
    with redirect_stderr(err):
        code = main([*request, "--out", str(comparison.folder)])
    assert (code, len(err.getvalue().splitlines())) == (2, 1)
    assert "line 2 cannot be read (it is a list, not an object)" in err.getvalue()
    assert contents(comparison.folder) == {"results.jsonl": LINE + b"[]"}


def test_a_torn_last_line_does_not_keep_the_other_runs_from_being_reported(tmp_path):
    (tmp_path / "results.jsonl").write_bytes(LINE + LINE[:300])
    assert report(tmp_path) == (0, "")
    assert (tmp_path / "results.jsonl").read_bytes() == LINE + LINE[:300]


PLACES = ["metric", "seed", "options", "trajectory", "metric_steps", "metric_curve", "problem"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(PLACES), VALUES, min_size=1))
def test_a_line_with_anything_anywhere_is_either_a_run_or_a_value_error(changes):
    text = json.dumps({**good(), **changes})
    try:
        run = Run.from_line(text)
    except ValueError:
        return
    assert Run.from_line(run.to_line()) == run


@given(st.integers(0, len(LINE) - 2), st.binary(min_size=1, max_size=4))
def test_a_line_with_other_bytes_somewhere_never_ends_in_a_traceback(place, junk):
    with TemporaryDirectory() as folder:
        spoilt = LINE[:place] + junk + LINE[place + len(junk) :]
        path = Path(folder, "results.jsonl")
        path.write_bytes(spoilt)
        code, err = report(Path(folder))
        assert code in (0, 2)
        assert len(err.splitlines()) == (code == 2)
        assert path.read_bytes() == spoilt
