"""`timing.json`: the prices of steps, kept beside the results."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from equipoise.benchmarks.compare.fingerprint import UNKNOWN, Fingerprint
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.run import Experiment
from equipoise.benchmarks.compare.step_times import UNPRICED, Prices
from equipoise.benchmarks.schema import read_kept
from equipoise.pages.files import write_atomically

FILE_NAME = "timing.json"


@dataclass(frozen=True)
class _Kept:
    """What `timing.json` holds."""

    problem: str
    options: TrainingOptions
    ratios: dict[str, float]
    fingerprint: Fingerprint = UNKNOWN
    plain_step: float | None = None

    @property
    def experiment(self) -> Experiment:
        return Experiment(self.problem, self.options, self.fingerprint)


def read_timing(folder: Path, experiment: Experiment) -> Prices:
    """The prices kept in a folder for an experiment.

    Args:
        folder: Where `write_timing` wrote them.
        experiment: What was trained, and how.

    Returns:
        The prices; none where none were measured for it.

    Raises:
        RequestError: If the file is there and holds something else.
    """
    kept = read_kept(_Kept, folder / FILE_NAME)
    if kept is None or kept.experiment != experiment:
        return UNPRICED
    return Prices(kept.ratios, kept.plain_step)


def write_timing(folder: Path, experiment: Experiment, prices: Prices) -> Prices:
    """Keeps prices beside the results; those of methods not measured this time stay.

    So does the time of a plain step, once it is there: where all methods are trained equally long,
    it decides how many steps a run has, and a continued comparison must have the same runs.

    Args:
        folder: The comparison's folder.
        experiment: What was trained, and how.
        prices: As `measure_prices` gives them.

    Returns:
        All that is kept now.
    """
    before = read_timing(folder, experiment)
    ratios = {**before.ratios, **prices.ratios}
    plain_step = prices.plain_step if before.plain_step is None else before.plain_step
    kept = _Kept(experiment.problem, experiment.options, ratios, experiment.fingerprint, plain_step)
    write_atomically(folder / FILE_NAME, json.dumps(asdict(kept), indent=2))
    return Prices(ratios, plain_step)
