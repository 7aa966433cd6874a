from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
KILLS = 4


def start(folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m", "tests.optim.killed", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def kill_once(folder, steps):
    """Kills a training some steps after it resumed, at any point within a step."""
    saved = folder / "checkpoint.pt"
    process, seen, last = start(folder), 0, stamp(saved)
    while seen < steps and process.poll() is None:
        now = stamp(saved)
        seen, last = seen + (now != last), now
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()


def stamp(file):
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return 0


@pytest.mark.slow
def test_a_training_killed_at_random_ends_bit_identical(tmp_path):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    alone.mkdir()
    killed.mkdir()
    assert start(alone).wait() == 0
    draw = random.Random(7)
    for _ in range(KILLS):
        kill_once(killed, draw.randint(1, 12))
    assert torch.load(killed / "checkpoint.pt")["step"] < 60
    assert start(killed).wait() == 0
    one, other = (torch.load(f / "checkpoint.pt", weights_only=True) for f in (alone, killed))
    assert one["step"] == other["step"] == 60
    for mine, theirs in zip(one["states"], other["states"], strict=True):
        assert_same(mine, theirs)


def assert_same(one, other):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, list | tuple):
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    else:
        assert one == other
