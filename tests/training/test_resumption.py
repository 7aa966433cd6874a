"""A training killed at random points and resumed ends as one that was left alone."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
import torch

from tests.forks import start
from tests.methods import NAMES
from tests.training.killed import main

pytestmark = pytest.mark.xdist_group("resumption")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> tuple[dict, dict]:
    alone, killed = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("killed")
    to_its_end(alone)
    draw = random.Random(5)
    kills = 0
    while True:
        process = start(main, killed)
        deadline = time.monotonic() + draw.uniform(0.0, 1.5)
        before = progress(killed)
        while process.is_alive() and (progress(killed) == before or time.monotonic() < deadline):
            time.sleep(0.01)
        if not process.is_alive():
            assert process.exitcode == 0
            break
        process.kill()
        process.join()
        kills += 1
        if kills == 4:
            to_its_end(killed)
            break
    assert kills > 0
    return tuple(torch.load(f / "checkpoint.pt", weights_only=True) for f in (alone, killed))


def to_its_end(folder: Path) -> None:
    process = start(main, folder)
    process.join()
    assert process.exitcode == 0


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
