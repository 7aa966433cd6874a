"""A training killed at random points has one record, without a gap or a step twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from equipoise.monitor.history import read_history
from tests.monitor.killed import STEPS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("resumption")]

ROOT = Path(__file__).parents[2]
KILLS = 10
KEPT = [step for step in range(STEPS) if step % 2 == 0 or step % 5 == 0]


def start(folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m", "tests.monitor.killed", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)


def taken(folder: Path) -> int:
    file = folder / "taken"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    alone, killed = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("killed")
    assert start(alone).wait() == 0
    draw = random.Random(7)
    for _ in range(KILLS):
        process, goal = start(killed), taken(killed) + draw.randint(1, 9)
        while process.poll() is None and taken(killed) < goal:
            time.sleep(0.002)
        assert process.poll() is None, "it ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(killed).wait() == 0
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
