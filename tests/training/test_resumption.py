"""A training killed at random points and resumed ends as one that was left alone."""

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

from tests.methods import NAMES

pytestmark = pytest.mark.xdist_group("resumption")

ROOT = Path(__file__).parents[2]


def start(folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m", "tests.training.killed", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> tuple[dict, dict]:
    alone, killed = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("killed")
    assert start(alone).wait() == 0
    draw = random.Random(5)
    kills = 0
    while True:
        process = start(killed)
        deadline = time.monotonic() + draw.uniform(0.0, 1.5)
        before = progress(killed)
        while process.poll() is None and (
            progress(killed) == before or time.monotonic() < deadline
        ):
            time.sleep(0.01)
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        if kills == 4:
            assert start(killed).wait() == 0
            break
    assert kills > 0
    return tuple(torch.load(f / "checkpoint.pt", weights_only=True) for f in (alone, killed))


def progress(folder: Path) -> float:
    saved = folder / "checkpoint.pt"
    return saved.stat().st_mtime if saved.exists() else 0.0


def flatten(state: object, path: str = "") -> dict[str, object]:
    if isinstance(state, dict):
        parts = state.items()
    elif isinstance(state, list | tuple):
        parts = enumerate(state)
    else:
        return {path: state}
    return {k: v for key, part in parts for k, v in flatten(part, f"{path}/{key}").items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "mtadam"])
def test_a_killed_training_ends_bit_identical(name, checkpoints) -> None:
    alone, killed = (flatten(found[name]) for found in checkpoints)
    assert alone.keys() == killed.keys()
    for key, value in alone.items():
        if isinstance(value, torch.Tensor):
            same = torch.equal(value.double().nan_to_num(7e7), killed[key].double().nan_to_num(7e7))
            assert same, key
        else:
            assert value == killed[key], key
