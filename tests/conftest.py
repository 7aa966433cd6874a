"""What every test starts from: the same random numbers, one thread, a chosen thoroughness."""

from __future__ import annotations

import gc
import os
import random
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

SEED = 20200614

# A program that tests start; as any file, it is imported for its docstrings.
collect_ignore = [] if find_spec("deepspeed") else ["integrations/deepspeed_processes.py"]

# A shared machine's pauses say nothing about the code, so nothing here is held to a time.
PATIENT = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
    "derandomize": "CI" in os.environ,
    "database": None,
}
settings.register_profile("quick", max_examples=25, **PATIENT)
settings.register_profile("full", max_examples=100, **PATIENT)
settings.load_profile(os.environ.get("EQUIPOISE_HYPOTHESIS", "quick"))


def pytest_configure() -> None:
    # Sums over several threads round differently from run to run of a scheduler.
    torch.set_num_threads(1)
    os.environ["DDE_BACKEND"] = "pytorch"  # DeepXDE reads it on import


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sends tests that share a module's fixture to one worker, which sets it up once.

    The cases of a function go together, too: handing them out singly costs xdist the square of
    their number. (pytest-xdist 3.8.0 sees no group under pytest 9.2, so constraints.txt has 9.1.)
    """
    numbers: dict[str, int] = {}  # short, as xdist appends them to the names of tests
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            together, _, _ = item.nodeid.partition("::" if shares(item) else "[")
            number = numbers.setdefault(together, len(numbers))
            item.add_marker(pytest.mark.xdist_group(number))


def shares(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    found = item._fixtureinfo.name2fixturedefs.values()
    return any(fixture.scope == "module" for definitions in found for fixture in definitions)


def pytest_collection_finish() -> None:
    """Takes what was imported and collected out of all garbage collections to come.

    Trainers of frameworks ask for one a training, and each went through millions of objects.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 (scikit-learn and other libraries still draw from it)
    torch.manual_seed(SEED)
