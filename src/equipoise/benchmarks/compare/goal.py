"""How likely a method is to reach a stated value of the metric, over seeds."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.compare.statistics import CONFIDENCE, Standing


@dataclass(frozen=True)
class Reached:
    """On how many seeds a method reached the goal.

    Args:
        hits: Seeds whose last metric is as good as the goal.
        seeds: All of them, those that failed too.
    """

    hits: int
    seeds: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the probability, which holds for few seeds too."""
        found = stats.binomtest(self.hits, self.seeds).proportion_ci(CONFIDENCE, method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        """The count and the interval, for a table."""
        low, high = self.interval
        return f"{self.hits} of {self.seeds} ({low:.2f} to {high:.2f})"


def reached(row: Standing, goal: float) -> Reached:
    """Counts the seeds on which a method reached a value.

    This is the robustness of a method: the mean hides that one seed in three does not converge.

    Args:
        row: A method over all its seeds.
        goal: The value, in the metric's own units; reached by it or anything better.

    Returns:
        The count.

    Source: the protocol of arXiv 2501.18582.

    Example:
        >>> str(Reached(8, 10))
        '8 of 10 (0.49 to 0.94)'
    """
    return Reached(sum(_is_there(run, goal) for run in row.runs), len(row.runs))


def _is_there(run: Run, goal: float) -> bool:
    if run.failed or run.metric is None:
        return False
    return run.metric >= goal if run.problem.higher_is_better else run.metric <= goal
