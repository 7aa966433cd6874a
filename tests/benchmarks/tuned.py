"""The small problem with validation data and two metrics, for what is chosen and retrained."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

from equipoise.benchmarks import Metric, Problem, Trial
from tests.benchmarks.small import problem as small


def problem() -> Problem:
    base = small("tuned")

    def start(seed: int) -> Trial:
        trial = base.start(seed)
        (x,) = trial.data

        def measure(part):
            errors = (trial.model(part) - part[:, :2]).square().mean(dim=0)
            return {"near error": float(errors[0]), "far error": float(errors[1])}

        return dataclasses.replace(
            trial,
            data=(x[:16],),
            validate=lambda: measure(x[16:20]),
            evaluate=lambda: measure(x[20:]),
        )

    return dataclasses.replace(
        base,
        start=start,
        metric="near error",
        metrics=(Metric("near error", False), Metric("far error", False)),
    )


def deadly_problem() -> Problem:
    """Kills the process that starts seed 1, as often as the file beside it says."""
    base = problem()

    def start(seed: int) -> Trial:
        left = Path(os.environ["EQUIPOISE_TEST_DEATHS"])
        # The first process is the test's own, which takes fingerprints and prices with seed 0.
        if seed == 1 and (deaths := int(left.read_text())):
            left.write_text(str(deaths - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return base.start(seed)

    return dataclasses.replace(base, name="deadly", start=start)
