from __future__ import annotations

import pytest

from equipoise.benchmarks.compare.pictures import metric_picture
from equipoise.benchmarks.compare.plan import Plan
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.compare.statistics import standings
from equipoise.benchmarks.compare.training import train
from equipoise.benchmarks.demo.findings import Finding, finding
from equipoise.benchmarks.demo.parts import PARTS, Part
from equipoise.benchmarks.methods import parse_methods
from equipoise.benchmarks.problem import Problem
from equipoise.benchmarks.problems.descent import beale
from tests.benchmarks.small import problem

METHODS = "equal,right,firstvalue,mtadam,gradnorm:alpha=0.12:scale=first_value"
SMALL = Part(
    title="Two lines & one plane",
    plan=Plan(problem="small", balancers=METHODS),
    method="mtadam",
    picture=metric_picture,
    caption="Error during training.",
)
(BEALE,) = (part for part in PARTS if part.name == "beale")
SHORT = TrainingOptions(epochs=None, batch_size=8, lr=1e-2, steps=6)
DESCENT = TrainingOptions(epochs=None, batch_size=None, lr=2e-2, steps=40)


def train_all(of: Problem, methods: str, options: TrainingOptions, seeds: int) -> list[Run]:
    return [
        train(of, method, options, seed, watch=lambda *_: None)
        for seed in range(seeds)
        for method in parse_methods(methods)
    ]


@pytest.fixture(scope="session")
def small_runs() -> list[Run]:
    return train_all(problem(), METHODS, SHORT, seeds=3)


@pytest.fixture(scope="session")
def descents() -> list[Run]:
    return train_all(beale(), f"equal,firstvalue,{BEALE.method}", DESCENT, seeds=2)


@pytest.fixture(scope="session")
def found(small_runs, descents) -> list[Finding]:
    """One part with curves and one with paths; both real, both short."""
    return [
        finding(SMALL, standings(small_runs, {})),
        finding(BEALE, standings(descents, {})),
    ]
