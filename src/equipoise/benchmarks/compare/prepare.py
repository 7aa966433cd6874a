"""From what a user asked for to what is run, and by whom."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from equipoise.benchmarks.compare.comparison import Comparison
from equipoise.benchmarks.compare.engines.cluster import Cluster
from equipoise.benchmarks.compare.engines.engine import Assignment, Engine
from equipoise.benchmarks.compare.engines.in_process import InProcess
from equipoise.benchmarks.compare.engines.processes import Processes
from equipoise.benchmarks.compare.optimizers import with_optimizer
from equipoise.benchmarks.compare.outline import outline, stated
from equipoise.benchmarks.compare.plan import Plan
from equipoise.benchmarks.problems import find_problem
from equipoise.benchmarks.refusal import RequestError
from equipoise.pages.files import folder_name
from equipoise.words import did_you_mean

_ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Prepared:
    """A comparison, and the plan that repeats it.

    Args:
        comparison: What to run.
        plan: With everything stated.
    """

    comparison: Comparison
    plan: Plan


def prepare(plan: Plan, folder: Path | None) -> Prepared:
    """Finds the problem, and reads the rest of a plan for it.

    Args:
        plan: As a user wrote it.
        folder: Where the results go; ``None`` for ``runs/<problem>``.

    Returns:
        What to run.

    Raises:
        RequestError: If there is no such problem, or something in the plan cannot be read.
    """
    problem = with_optimizer(find_problem(plan.problem), plan.optimizer)
    full = stated(plan, problem)
    asked = outline(full)
    comparison = Comparison(
        problem=problem,
        methods=asked.methods,
        seeds=asked.seeds,
        options=asked.options,
        folder=folder or Path("runs") / folder_name(problem.name),
        search=asked.search,
    )
    return Prepared(comparison, full)


@dataclass(frozen=True)
class Staff:
    """Who trains.

    Args:
        engine: ``"local"`` or ``"ray"``.
        workers: Processes of this machine; 1 is this process.
        threads: Threads of torch for each.

    Raises:
        RequestError: If there is no such engine.
    """

    engine: str
    workers: int
    threads: int

    def __post_init__(self) -> None:
        if self.engine not in _ENGINES:
            hint = did_you_mean(self.engine, _ENGINES)
            raise RequestError(f"Unknown --engine {self.engine!r}.{hint} It is local or ray.")

    def start(self, prepared: Prepared) -> Engine:
        """The engine for a comparison."""
        comparison = prepared.comparison
        if (self.engine, self.workers) == ("local", 1):
            return InProcess(comparison.problem, comparison.experiment.fingerprint)
        assignment = Assignment(
            problem=prepared.plan.problem,
            optimizer=prepared.plan.optimizer,
            fingerprint=comparison.experiment.fingerprint,
            threads=self.threads,
            path=tuple(sys.path),
        )
        return Cluster(assignment) if self.engine == "ray" else Processes(assignment, self.workers)
