"""A user's program is typed throughout: what is right passes ``mypy --strict``, what is wrong not.

`programs/` holds small programs as users write them; each passes, and its ``main`` runs. A line of
`refused/` that ends in ``# expect-error: <codes>`` gets exactly those errors, all others none.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAMS = sorted((HERE / "programs").glob("*.py"))
REFUSED = sorted((HERE / "refused").glob("*.py"))

Lines = dict[tuple[str, int], list[str]]


@pytest.fixture(scope="module")
def reported() -> Lines:
    """Each line at which mypy reports errors, with their codes."""
    pytest.importorskip("mypy")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", HERE / "mypy.ini"),
            *("--cache-dir", ROOT / ".mypy_cache" / "programs"),
            *("--no-error-summary", *PROGRAMS, *REFUSED),
        ],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in (0, 1), run.stdout + run.stderr
    found: Lines = defaultdict(list)
    for line in run.stdout.splitlines():
        if match := re.fullmatch(r"(.+?):(\d+): error: (.*)", line):
            path, number, message = match.groups()
            found[str(ROOT / path), int(number)].append(message)
    return found


def of(reported: Lines, path: Path) -> dict[int, list[str]]:
    return {number: told for (file, number), told in reported.items() if file == str(path)}


def codes(messages: list[str]) -> list[str]:
    return sorted(message.rpartition("[")[2].rstrip("]") for message in messages)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_users_program_passes_strict_type_checking(path, reported) -> None:
    assert of(reported, path) == {}


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_a_mistake_is_reported_where_it_is_made_and_nowhere_else(path, reported) -> None:
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    expected = {
        number: sorted(line.partition("# expect-error: ")[2].split(", "))
        for number, line in lines
        if "# expect-error: " in line
    }
    assert expected
    assert {number: codes(told) for number, told in of(reported, path).items()} == expected


def test_only_the_programs_are_reported_on(reported) -> None:
    assert {file for file, _ in reported} <= {str(path) for path in [*PROGRAMS, *REFUSED]}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_that_is_typed_also_runs(path) -> None:
    spec = importlib.util.spec_from_file_location(f"program_{path.stem}", path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.main()


def test_the_wheel_says_that_it_is_typed(tmp_path) -> None:
    wheels = pytest.importorskip("hatchling.builders.wheel")
    (built,) = wheels.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        assert "equipoise/py.typed" in wheel.namelist()
