"""The diagnosis of a problem, at its first batches."""

from __future__ import annotations

from itertools import islice

from equipoise import Diagnosis
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.stream import batches
from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problem import Problem
from equipoise.benchmarks.refusal import RequestError
from equipoise.monitor.progress import shown

BATCHES = 20
"""How many are looked at, if nobody says otherwise."""


def diagnose_problem(
    problem: Problem, options: TrainingOptions, seed: int, count: int = BATCHES
) -> Diagnosis:
    """Looks at the first batches of a problem with the model as it is initialised.

    Args:
        problem: The problem.
        options: Tells the size of a batch.
        seed: Decides model, data and their order, as in a comparison.
        count: How many batches; fewer if the epochs have no more.

    Returns:
        The diagnosis; no training was done.

    Raises:
        RequestError: If it cannot be diagnosed, as with one loss only.
    """
    trial = start_trial(problem, seed)
    try:
        diagnosis = Diagnosis(problem.losses, trained=trial.model)
        stream = islice(batches(trial, options, seed), count)
        for batch in shown(stream, count, "diagnosing"):
            diagnosis.observe(trial.compute_losses(*batch))
    except (RuntimeError, TypeError, ValueError) as error:
        raise RequestError(f"{problem.name} cannot be diagnosed: {error}") from error
    return diagnosis
