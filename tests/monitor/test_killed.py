"""A training killed at random points has one record, without a gap or a step twice."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from equipoise.monitor.history import read_history
from tests.forks import start
from tests.monitor.killed import STEPS, main

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("resumption")]

KILLS = 10
KEPT = [step for step in range(STEPS) if step % 2 == 0 or step % 5 == 0]


def to_its_end(folder: Path) -> None:
    process = start(main, folder)
    process.join()
    assert process.exitcode == 0


def taken(folder: Path) -> int:
    file = folder / "taken"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    alone, killed = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("killed")
    to_its_end(alone)
    draw = random.Random(7)
    for _ in range(KILLS):
        process, goal = start(main, killed), taken(killed) + draw.randint(1, 9)
        while process.is_alive() and taken(killed) < goal:
            time.sleep(0.002)
        assert process.is_alive(), "it ended before it was killed"
        process.kill()
        process.join()
    to_its_end(killed)
    return alone, killed


@pytest.mark.parametrize("kind", ["gradnorm", "mtadam"])
def test_the_record_of_a_killed_training_has_no_gap_and_no_step_twice(kind, folders) -> None:
    whole, killed = (read_history(folder / kind) for folder in folders)
    lines = (folders[1] / kind / "record.jsonl").read_text().splitlines()
    assert sum('"step"' in line for line in lines) == len(KEPT)
    assert [entry.step for entry in killed.entries] == KEPT
    assert killed.unread == 0
    for one, other in zip(whole.entries, killed.entries, strict=True):
        assert repr(one.losses) == repr(other.losses)  # where they are not a number, too
        assert repr(one.weights) == repr(other.weights)
        assert repr(one.cosines) == repr(other.cosines)
