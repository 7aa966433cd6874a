"""A plan read: what is trained and tried, with nothing left to a problem's defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from equipoise.benchmarks.compare.budget import Budget, parse_budget
from equipoise.benchmarks.compare.plan import PLAN_NAME, Plan, read_plan
from equipoise.benchmarks.compare.request import TrainingOptions, parse_seeds
from equipoise.benchmarks.compare.rows import Row, rows_of
from equipoise.benchmarks.compare.search import NO_SEARCH, Search, parse_rates
from equipoise.benchmarks.compare.step_times import Prices
from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.methods import (
    BASELINES,
    RIGHT,
    Choice,
    Method,
    methods_for,
    parse_methods,
)
from equipoise.benchmarks.problem import Problem
from equipoise.benchmarks.refusal import RequestError

_ALL = "all"
_BASELINES = "baselines"


@dataclass(frozen=True)
class Outline:
    """What of a comparison is known without its problem.

    Args:
        methods: What was asked for.
        seeds: All of them.
        options: How all are trained.
        search: What is tried.
    """

    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    options: TrainingOptions
    search: Search

    @property
    def tuning_seeds(self) -> tuple[int, ...]:
        """With which is chosen."""
        return self.search.seeds_for_choosing(self.seeds)

    @property
    def is_plain(self) -> bool:
        """Whether each method is one variant, trained with the options themselves.

        Then whatever else was trained with these options before can stand beside it.
        """
        values = [value for method in self.methods for value in method.options.values()]
        chosen = any(isinstance(value, Choice) for value in values)
        return not chosen and self.search == NO_SEARCH and self.options.seconds is None

    def rows(self, losses: Sequence[str], prices: Prices) -> tuple[Row, ...]:
        """What it consists of; see `rows_of`."""
        return rows_of(self.methods, self.options, self.search, losses, prices)


def stated(plan: Plan, problem: Problem) -> Plan:
    """A plan with the problem's defaults written in.

    Args:
        plan: As a user wrote it.
        problem: What it names.

    Returns:
        The plan as it is saved: it means the same when the defaults have changed.

    Raises:
        RequestError: If a method is unknown.
    """
    lengths = (plan.epochs, plan.steps, plan.budget)
    own = lengths == (None, None, None)
    return replace(
        plan,
        balancers=",".join(_labels(plan, problem)),
        epochs=problem.epochs if own else plan.epochs,
        steps=problem.steps if own else plan.steps,
        batch_size=problem.batch_size if plan.batch_size is None else plan.batch_size,
        lr=f"{problem.lr!r}" if plan.lr is None else plan.lr,
    )


def _labels(plan: Plan, problem: Problem) -> list[str]:
    asked = ",".join((_BASELINES, *problem.balancers)) if plan.balancers is None else plan.balancers
    parts = [part.strip() for part in asked.split(",")]
    trial = start_trial(problem, 0)
    known = [name for name in BASELINES if name != RIGHT or trial.right_weights is not None]
    labels: list[str] = []
    for part in parts:
        group = {_BASELINES: known, _ALL: [method.label for method in methods_for(trial)]}
        labels += group.get(part, [part])
    return [method.label for method in parse_methods(",".join(labels))]


def outline(plan: Plan) -> Outline:
    """Reads a plan.

    Args:
        plan: With everything stated, as `stated` leaves it.

    Returns:
        What it says.

    Raises:
        RequestError: If something in it cannot be read, or is out of range.
    """
    rates = parse_rates(plan.lr or "")
    if not rates:
        raise RequestError(f"--lr is a number, or several: 3e-4,1e-3; got {plan.lr!r}.")
    budget = Budget() if plan.budget is None else parse_budget(plan.budget)
    if plan.steps is not None and plan.budget is not None:
        raise RequestError("Give one of --epochs, --steps and --budget, not several.")
    search = Search(
        rates=rates if len(rates) > 1 else (),
        static=plan.static,
        retrain=plan.retrain,
        tuning_seeds=plan.tuning_seeds,
    )
    options = TrainingOptions(
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        lr=rates[0],
        steps=budget.steps if plan.steps is None else plan.steps,
        optimizer=plan.optimizer,
        seconds=budget.seconds,
    )
    return Outline(parse_methods(plan.balancers or ""), parse_seeds(plan.seeds), options, search)


def kept_plan(folder: Path) -> Plan | None:
    """The plan of the comparison that a folder was last used for, if one lies there.

    Raises:
        RequestError: If it cannot be read.
    """
    path = folder / PLAN_NAME
    return read_plan(path) if path.exists() else None
