"""Weights read off a finished run, to be trained with from scratch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from equipoise.benchmarks.compare.run import Number, Run
from equipoise.benchmarks.methods import FIXED, Method


def retrained(run: Run, last: float) -> Method | None:
    """The weights of a run, held fixed.

    So do the authors of GradNorm (Chen et al. 2018, arXiv 1711.02257, Section 5.4).

    Args:
        run: Of any method that weighs losses.
        last: Over which last part of its recorded points is averaged, as in
            `equipoise.Fixed.from_balancer`.

    Returns:
        The method; ``None`` where the run failed, or a loss had no weight that one number says.
    """
    means = [_mean(values, last) for values in run.trajectory.weights.values()]
    if run.failed or any(math.isnan(mean) for mean in means):
        return None
    return Method(FIXED, {"weights": means})


def _mean(values: Sequence[Number], last: float) -> float:
    wanted = values[-math.ceil(last * len(values)) :]
    there = [value for value in wanted if value is not None]
    return math.fsum(there) / len(there) if there else math.nan
