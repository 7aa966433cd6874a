"""The comparison itself: what it consists of, and its runs, each finished one kept at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from equipoise.benchmarks.compare.cells import Cell, next_cells
from equipoise.benchmarks.compare.engines.engine import Engine, Watcher
from equipoise.benchmarks.compare.engines.in_process import InProcess
from equipoise.benchmarks.compare.fingerprint import take_fingerprint
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.results import Results
from equipoise.benchmarks.compare.rows import Row, rows_of
from equipoise.benchmarks.compare.run import Experiment, Run
from equipoise.benchmarks.compare.search import NO_SEARCH, Search
from equipoise.benchmarks.compare.selection import Finished, chosen
from equipoise.benchmarks.compare.step_times import UNPRICED, Prices, measure_prices
from equipoise.benchmarks.compare.timing_file import read_timing, write_timing
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.problem import Problem


@dataclass(frozen=True)
class Comparison:
    """What to run, and where to keep it.

    Args:
        problem: What is trained.
        methods: The rows; their options may be a `Choice`.
        seeds: Each method is trained once with each.
        options: How all of them are trained.
        folder: Gets `results.jsonl` and `timing.json`.
        search: What is tried, and chosen on validation data.
    """

    problem: Problem
    methods: Sequence[Method]
    seeds: Sequence[int]
    options: TrainingOptions
    folder: Path
    search: Search = NO_SEARCH

    @cached_property
    def experiment(self) -> Experiment:
        """What its runs have in common; taken once, as it starts a trial."""
        fingerprint = take_fingerprint(self.problem, self.options.batch_size)
        return Experiment(self.problem.name, self.options, fingerprint)

    def rows(self, prices: Prices = UNPRICED) -> tuple[Row, ...]:
        """What it consists of, as far as that is known before anything is trained."""
        return rows_of(self.methods, self.options, self.search, self.problem.losses, prices)

    def next_cells(self, rows: Sequence[Row], finished: Finished) -> list[Cell]:
        """What can be trained now."""
        return next_cells(rows, finished, self.seeds, self.search.seeds_for_choosing(self.seeds))

    def finished(self) -> Finished:
        """Its finished runs, and others of the same problem.

        Raises:
            RequestError: If `results.jsonl` cannot be read.
        """
        now = (self.experiment.problem, self.experiment.fingerprint)
        runs = Results(self.folder).read()
        return Finished([run for run in runs if (run.problem.name, run.fingerprint) == now])

    def has_result(self) -> bool:
        """Whether there is a row to show: one that is chosen among variants waits for all."""
        rows, finished = self.rows(read_timing(self.folder, self.experiment)), self.finished()
        best = chosen(rows, finished, self.search.seeds_for_choosing(self.seeds))
        return any(finished.of(variant, self.seeds) for variant in best.values())


class Observer(Watcher, Protocol):
    """Is told how a comparison goes."""

    def planned(self, to_do: Sequence[Cell], done: Mapping[str, int]) -> None:
        """Before the first run of each stage: what is to do now, and each row's finished runs."""

    def timing(self) -> None:
        """Before the steps' prices are measured."""

    def finished(self, cell: Cell, run: Run) -> None:
        """After each run, when it is on the disk."""


def compare(comparison: Comparison, observer: Observer, engine: Engine | None = None) -> None:
    """Runs what has not been run yet, seed by seed, so that a stop leaves comparable rows.

    Args:
        comparison: What to run; `check` tells whether it can.
        observer: Is told how it goes.
        engine: Who trains; by default this process. It is closed at the end.

    Raises:
        RequestError: If the folder's files cannot be read; nothing in them is changed then.
    """
    results = Results(comparison.folder)
    results.read()
    prices = read_timing(comparison.folder, comparison.experiment)
    results.repair()
    # Where time is what all are given, prices decide what the runs are.
    if comparison.options.seconds is not None:
        prices = _with_all_prices(comparison, prices, observer)
    rows = comparison.rows(prices)
    to_do = _next(comparison, rows, observer)
    # Where the file was deleted, prices are measured again, whether or not a run is missing.
    if comparison.options.seconds is None and (to_do or prices == UNPRICED):
        _with_all_prices(comparison, prices, observer)
    trains = engine or InProcess(comparison.problem, comparison.experiment.fingerprint)
    try:
        while to_do:
            _train(to_do, trains, results, observer)
            to_do = _next(comparison, rows, observer)
    finally:
        trains.close()


def _next(comparison: Comparison, rows: Sequence[Row], observer: Observer) -> list[Cell]:
    """What can be trained now; the observer is told it beside what is there."""
    finished = comparison.finished()
    to_do = comparison.next_cells(rows, finished)
    seeds = comparison.seeds
    done = {row.label: sum(len(finished.of(each, seeds)) for each in row.variants) for row in rows}
    observer.planned(to_do, done)
    return to_do


def _train(cells: Sequence[Cell], engine: Engine, results: Results, observer: Observer) -> None:
    asked = {cell.key: cell for cell in cells}
    for run in engine.run(cells, observer):
        results.append(run)
        observer.finished(asked[run.balancer, run.options, run.seed], run)


def _with_all_prices(comparison: Comparison, prices: Prices, observer: Observer) -> Prices:
    """The kept prices, and those that are missing, measured now."""
    variants = [variant for row in comparison.rows() for variant in row.variants]
    wanted = {variant.priced_as.label: variant.priced_as for variant in variants}
    missing = [method for label, method in wanted.items() if label not in prices.ratios]
    if not missing:
        return prices
    observer.timing()
    found = measure_prices(comparison.problem, missing, comparison.options, comparison.seeds[0])
    return write_timing(comparison.folder, comparison.experiment, found)
