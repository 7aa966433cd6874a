"""The end of a report: what the words mean, what each method does, how the page came about."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from html import escape

from equipoise.benchmarks.compare.plan import PLAN_NAME
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.rows import RETRAINED_ENDING
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.methods import PLAIN_SUM, RIGHT, method_names, summary
from equipoise.benchmarks.problems import PROBLEMS

_BALANCING = (
    "A model that is trained with several losses goes down their sum, and a loss whose gradient is "
    "a hundred times as long as the others' decides alone where that is, important or not. "
    "Balancing is to find out during the training how much each loss should count: a weighting "
    "gives every loss a weight, from the values or the gradients that it sees; an aggregation puts "
    "the update together from the gradients; a multi-term optimizer turns them into its steps. The "
    "plain sum is what one has without. The right weights are those that undo how differently the "
    "losses of a made-up problem were scaled: outside of such problems nobody knows them, so they "
    "are no competitor, but tell how much there was to gain."
)


def explained(rows: Sequence[Standing]) -> str:
    """What balancing is, and each method of the report in a line.

    Args:
        rows: Best first, at least one.

    Returns:
        HTML.
    """
    items = "\n".join(
        f"<dt>{escape(title)}</dt><dd>{_with_code(line)}</dd>" for title, line in _methods(rows)
    )
    return f"<p>{escape(_BALANCING)}</p>\n<dl>\n{items}\n</dl>"


def _with_code(line: str) -> str:
    return re.sub("``(.+?)``", r"<code>\1</code>", escape(line))


def _methods(rows: Sequence[Standing]) -> list[tuple[str, str]]:
    """Each row's title and what its method does; nothing of methods that are no longer there."""
    known, found = set(method_names()), []
    for row in rows:
        name, _, options = row.balancer.partition(":")
        if name in known and not row.balancer.endswith(RETRAINED_ENDING):
            also = f" Here with {options.replace(':', ', ')}." if options else ""
            found.append((row.title, summary(name) + also))
    return found


def provenance(rows: Sequence[Standing]) -> str:
    """The command that makes the same comparison, and what it was computed with.

    Args:
        rows: Best first, at least one.

    Returns:
        HTML.
    """
    run = rows[0].runs[0]
    return f"<pre><code>{escape(command(rows))}</code></pre>\n<p>{escape(versions(run))}</p>"


def command(rows: Sequence[Standing]) -> str:
    """The command that makes the same comparison.

    Args:
        rows: At least one.

    Returns:
        A line for a shell. Results name a problem and not the module that a user wrote it in: there
        ``module:function`` stands for it. What was chosen among variants is in the plan's file.
    """
    if any(row.tried for row in rows):
        return f"equipoise compare {PLAN_NAME}"  # more than a line can hold
    run = rows[0].runs[0]
    seeds = sorted({found.seed for row in rows for found in row.runs})
    counted = str(len(seeds)) if seeds == list(range(len(seeds))) else ",".join(map(str, seeds))
    balancers = sorted((row.balancer for row in rows), key=_references_first)
    return shlex.join(
        [
            *("equipoise", "compare"),
            run.problem.name if run.problem.name in PROBLEMS else "module:function",
            *("--balancers", ",".join(balancers)),
            *("--seeds", f"{counted}," if len(seeds) == 1 and seeds != [0] else counted),
            *_written(run.options),
        ]
    )


def _written(options: TrainingOptions) -> list[str]:
    """Options as the command line takes them, those left out that have no value."""
    values = {
        "--epochs": options.epochs,
        "--steps": options.steps,
        "--batch-size": options.batch_size,
        "--lr": f"{options.lr:g}",
        "--optimizer": options.optimizer or None,
    }
    pairs = ((name, str(value)) for name, value in values.items() if value is not None)
    return [word for pair in pairs for word in pair]


def _references_first(label: str) -> tuple[bool, str]:
    return label not in (PLAIN_SUM, RIGHT), label


def versions(run: Run) -> str:
    """What a run was computed with, in a sentence.

    Args:
        run: Of results that say it, or of older ones.
    """
    made = run.fingerprint
    if not made.equipoise:
        return "These results do not say with which versions they were made."
    return f"equipoise {made.equipoise}, torch {made.torch}, on {made.device}."
