from __future__ import annotations

import random
import time

import pytest
import torch

from tests.forks import start
from tests.optim.killed import main

KILLS = 4


def to_its_end(folder):
    process = start(main, folder)
    process.join()
    assert process.exitcode == 0


def kill_once(folder, steps):
    """Kills a training some steps after it resumed, at any point within a step."""
    saved = folder / "checkpoint.pt"
    process, seen, last = start(main, folder), 0, stamp(saved)
    while seen < steps and process.is_alive():
        now = stamp(saved)
        seen, last = seen + (now != last), now
        time.sleep(0.0005)
    process.kill()
    process.join()


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
    to_its_end(alone)
    draw = random.Random(7)
    for _ in range(KILLS):
        kill_once(killed, draw.randint(1, 12))
    assert torch.load(killed / "checkpoint.pt")["step"] < 60
    to_its_end(killed)
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
