"""What is said before a comparison starts: that it cannot, or that old runs do not count."""

from __future__ import annotations

from dataclasses import replace

from equipoise.benchmarks.compare.comparison import Comparison
from equipoise.benchmarks.compare.honest import Watched, withheld
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.results import Results
from equipoise.benchmarks.compare.rows import Row
from equipoise.benchmarks.compare.stream import batches, run_length
from equipoise.benchmarks.compare.trainers import build_trainer
from equipoise.benchmarks.compare.training import MethodError, start_trial, take_step
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.refusal import RequestError


def check(comparison: Comparison) -> int:
    """Takes one step with every method, so that a wrong request is met before anything starts.

    Args:
        comparison: What is going to run.

    Returns:
        How many steps a run has; 0 where that follows from its price.

    Raises:
        RequestError: If a method cannot be built for this problem, or cannot train it; or if
            something is to be chosen, and the problem has no validation data to choose with.
    """
    rows = comparison.rows()
    _check_validation(comparison, rows)
    # Variants of one price are one method; of twenty static weightings one speaks for all.
    methods = {each.priced_as.label: each.priced_as for row in rows for each in row.variants}
    for method in methods.values():
        _take_one_step(comparison, method)
    trial = start_trial(comparison.problem, comparison.seeds[0])
    return 0 if comparison.options.seconds else run_length(trial, comparison.options)


def _check_validation(comparison: Comparison, rows: tuple[Row, ...]) -> None:
    tuned = [row.label for row in rows if len(row.variants) > 1]
    if tuned and start_trial(comparison.problem, comparison.seeds[0]).validate is None:
        raise RequestError(
            f"{comparison.problem.name} has no validation data to choose {tuned[0]} with; give its "
            "Trial a `validate`, or ask for one --lr, one value of each option and no --static."
        )


def _take_one_step(comparison: Comparison, method: Method) -> None:
    problem, seed = comparison.problem, comparison.seeds[0]
    options = replace(comparison.options, epochs=None, steps=1)
    trial = withheld(start_trial(problem, seed))
    trainer = build_trainer(method, problem, trial, options.lr)
    try:
        take_step(trial, Watched(trainer, trial), next(batches(trial, options, seed)))
    except MethodError as error:
        raise RequestError(f"{method.label} cannot train {problem.name}: {error}") from error


def outdated(comparison: Comparison) -> str:
    """Says which finished runs do not count, because the problem is no longer the same.

    Args:
        comparison: What is going to run.

    Returns:
        One sentence; empty where there is no such run. The runs stay in the file: they count again
        once the problem is what it was.

    Raises:
        RequestError: If `results.jsonl` cannot be read.
    """
    now = comparison.experiment
    wanted = {
        (variant.label, _stated(variant.options), seed)
        for row in comparison.rows()
        for variant in row.variants
        for seed in comparison.seeds
    }
    old = [
        run.fingerprint
        for run in Results(comparison.folder).read()
        if run.problem.name == now.problem
        and run.fingerprint != now.fingerprint
        and (run.balancer, _stated(run.options), run.seed) in wanted
    ]
    if not old:
        return ""
    changed = dict.fromkeys(word for found in old for word in now.fingerprint.differences(found))
    return (
        f"{len(old)} finished runs are of an earlier {comparison.problem.name} "
        f"({', '.join(changed)} differ); they are kept, and do not count here."
    )


def _stated(options: TrainingOptions) -> TrainingOptions:
    """Options without the steps that follow from a time, which are not known beforehand."""
    return options if options.seconds is None else replace(options, steps=None)
