from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from equipoise.benchmarks.random_numbers import RandomNumbers, seed_all


def draw() -> tuple[float, float, float]:
    return torch.rand(()).item(), float(np.random.rand()), random.random()  # noqa: NPY002


@pytest.mark.parametrize("seed", [0, 7, 1 << 32])
def test_a_seed_fixes_what_torch_numpy_and_python_draw(seed):
    seed_all(seed)
    first = draw()
    others = draw()
    seed_all(seed)
    assert draw() == first
    assert not set(first) & set(others)


def test_numbers_put_back_go_on_where_they_were():
    before = RandomNumbers.now()
    first = draw()
    draw()
    before.put_back()
    assert draw() == first


def test_numbers_of_a_seed_are_found_without_moving_the_global_ones():
    seed_all(3)
    undisturbed = draw()
    seed_all(3)
    found = RandomNumbers.of_seed(5)
    assert draw() == undisturbed
    found.put_back()
    of_five = draw()
    seed_all(5)
    assert draw() == of_five
