"""The other honest view of a comparison: after equal time beside equal steps, or the reverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from equipoise.benchmarks.compare.run import Number, Run
from equipoise.benchmarks.compare.statistics import Interval, Standing, mean_interval


@dataclass(frozen=True)
class View:
    """The metric of each method at another moment than its end.

    Args:
        title: Which moment.
        metrics: By label; a row without a measured price has none at equal time.
    """

    title: str
    metrics: Mapping[str, Interval]


def other_view(rows: Sequence[Standing]) -> View:
    """What the runs also tell, read off the metric during training.

    A run that is stopped early is a shorter run, since nothing in it follows a schedule; what ends
    a training after its last step (L-BFGS, say) is left out of this view for all alike. The metric
    is taken where it was measured next to the wanted step, which is a fortieth of a run away at
    most.

    Args:
        rows: A comparison, at least one row.

    Returns:
        The metric at equal steps, where all were trained equally long; else at equal time.
    """
    if rows[0].runs[0].options.seconds is not None:
        return _at_equal_steps(rows)
    return _at_equal_time(rows)


def _at_equal_steps(rows: Sequence[Standing]) -> View:
    """After as many steps as the most expensive method took."""
    steps = min(_taken(run) for row in rows for run in row.runs)
    found = {row.balancer: _at(row.runs, steps) for row in rows}
    return View(f"after {steps} steps each", found)


def _at_equal_time(rows: Sequence[Standing]) -> View:
    """After the time in which the plain sum takes all the steps of a run."""
    steps = _taken(rows[0].runs[0])
    found = {
        row.balancer: _at(row.runs, steps / row.relative_time) for row in rows if row.relative_time
    }
    return View(f"after the time of {steps} plain steps", found)


def _taken(run: Run) -> int:
    """How many steps a run had; the metric may have been measured once more, after them."""
    return run.trajectory.steps[-1]


def _at(runs: Sequence[Run], step: float) -> Interval:
    return mean_interval([_metric_near(run, step) for run in runs if not run.failed])


def _metric_near(run: Run, step: float) -> Number:
    place = min(range(len(run.metric_steps)), key=lambda i: abs(run.metric_steps[i] - step))
    return run.metric_curve[place]
