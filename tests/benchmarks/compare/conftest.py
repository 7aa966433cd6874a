from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.benchmarks.compare.comparison import Comparison
from equipoise.benchmarks.compare.fingerprint import UNKNOWN
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.run import Experiment, Run
from equipoise.benchmarks.compare.training import train
from equipoise.benchmarks.methods import parse_methods
from tests.benchmarks.small import problem

OPTIONS = TrainingOptions(epochs=2, batch_size=8, lr=1e-2)
EXPERIMENT = Experiment("small", OPTIONS, UNKNOWN)
"""Of the fixture `runs`, which carry no fingerprint."""


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    return Comparison(
        problem=problem(),
        methods=parse_methods("equal,gradnorm:every=2,mtadam"),
        seeds=(0, 1),
        options=OPTIONS,
        folder=tmp_path / "out",
    )


def train_some(methods: str, seeds: int) -> list[Run]:
    """Real runs of the small problem, seed by seed."""
    return [
        train(problem(), method, OPTIONS, seed, watch=lambda *_: None)
        for seed in range(seeds)
        for method in parse_methods(methods)
    ]


@pytest.fixture(scope="session")
def runs() -> list[Run]:
    """Three methods, three seeds, all of them real."""
    return train_some("equal,right,mtadam", seeds=3)
