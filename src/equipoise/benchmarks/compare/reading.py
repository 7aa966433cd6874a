"""The ranking that lies in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from equipoise.benchmarks.compare.gathering import gather
from equipoise.benchmarks.compare.outline import Outline, kept_plan, outline
from equipoise.benchmarks.compare.results import FILE_NAME, Results
from equipoise.benchmarks.compare.run import Experiment, Run
from equipoise.benchmarks.compare.selection import Finished
from equipoise.benchmarks.compare.statistics import Standing, standings
from equipoise.benchmarks.compare.timing_file import read_timing
from equipoise.benchmarks.refusal import RequestError


def read_standings(folder: Path, experiment: Experiment | None = None) -> list[Standing]:
    """The ranking of an experiment.

    Args:
        folder: Holds `results.jsonl`. Runs of other experiments are kept there, and left out here.
        experiment: Which; by default that for which the folder was last used: of its plan where one
            lies beside, and else of the last line.

    Returns:
        One row for each method, best first.

    Raises:
        RequestError: If the folder has no finished run, or its results cannot be read.
    """
    runs = Results(folder).read()
    plan = kept_plan(folder)
    asked = None if plan is None else outline(plan)
    if asked is None or asked.is_plain or not runs:
        wanted = runs[-1].experiment if runs and experiment is None else experiment
        return _of_one_experiment(folder, runs, wanted)
    last = experiment or runs[-1].experiment
    return _of_plan(folder, asked, runs, replace(last, options=asked.options))


def _of_one_experiment(
    folder: Path, runs: Sequence[Run], wanted: Experiment | None
) -> list[Standing]:
    """All that was trained with the same options, by whatever commands."""
    chosen = [run for run in runs if run.experiment == wanted]
    if wanted is None or not chosen:
        raise _nothing_finished(folder)
    _check_comparable(folder, chosen)
    return standings(chosen, read_timing(folder, wanted).ratios)


def _of_plan(
    folder: Path, asked: Outline, runs: Sequence[Run], experiment: Experiment
) -> list[Standing]:
    """What a plan asks for, with what it chose among."""
    now = (experiment.problem, experiment.fingerprint)
    own = [run for run in runs if (run.problem.name, run.fingerprint) == now]
    if not own:
        raise _nothing_finished(folder)
    prices = read_timing(folder, experiment)
    rows = asked.rows(list(own[-1].trajectory.losses), prices)
    found = gather(rows, Finished(own), asked.seeds, asked.tuning_seeds, prices)
    if not found:
        raise _nothing_finished(folder)
    for row in found:
        _check_comparable(folder, row.runs)
    return found


def _nothing_finished(folder: Path) -> RequestError:
    return RequestError(f"{folder / FILE_NAME} holds no finished run; run equipoise compare first.")


def _check_comparable(folder: Path, runs: Sequence[Run]) -> None:
    """Refuses runs that the same problem and options cannot have left."""
    for run in runs:
        if _shape(run) != _shape(runs[0]):
            raise RequestError(
                f"{folder / FILE_NAME}: {run.balancer} with seed {run.seed} was recorded at other "
                f"steps, or with other losses or another metric, than {runs[0].balancer} with seed "
                f"{runs[0].seed}; delete the line of the one that is wrong."
            )


def _shape(run: Run) -> tuple[object, ...]:
    facts, trajectory = run.problem, run.trajectory
    metric = (facts.metric, facts.higher_is_better)
    return metric, list(trajectory.losses), trajectory.steps, run.metric_steps
