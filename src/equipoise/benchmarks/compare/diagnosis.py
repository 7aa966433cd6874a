"""The diagnosis at the beginning of a comparison."""

from __future__ import annotations

from dataclasses import replace

from equipoise.benchmarks.compare.comparison import Comparison
from equipoise.benchmarks.diagnose.kept import read_diagnosis, write_diagnosis
from equipoise.benchmarks.diagnose.problem import BATCHES, diagnose_problem
from equipoise.benchmarks.refusal import RequestError


def diagnosed(comparison: Comparison) -> str:
    """Diagnoses the problem, unless that was done before; the report shows it.

    A problem that cannot be diagnosed can still be compared.

    Args:
        comparison: What is going to run.

    Returns:
        One sentence: the verdict, or why there is none.

    Raises:
        RequestError: If the folder holds a diagnosis that cannot be read.
    """
    summary = read_diagnosis(comparison.folder, comparison.experiment)
    if summary is None:
        try:
            options = replace(comparison.options, epochs=None, steps=BATCHES)
            found = diagnose_problem(comparison.problem, options, comparison.seeds[0])
        except RequestError as error:
            return str(error)
        summary = found.summary
        write_diagnosis(comparison.folder, comparison.experiment, summary)
    return f"Diagnosis: {summary.verdict}. {summary.sentence}"
