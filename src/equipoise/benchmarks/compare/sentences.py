"""What a comparison says in words; every "better" in it has been tested."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.benchmarks.compare.paired import Verdict, verdicts
from equipoise.benchmarks.compare.rows import STATIC
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.methods import PLAIN_SUM, RIGHT

_REFERENCES = (PLAIN_SUM, RIGHT, STATIC)


def headline(rows: Sequence[Standing]) -> str:
    """One sentence that says what the comparison showed.

    Args:
        rows: Best first, at least one.

    Returns:
        The best method beside the plain sum and, where they are there, the right weights and the
        static weights that were chosen.
    """
    problem = rows[0].runs[0].problem
    found = {row.balancer: row for row in rows}
    methods = [row for row in rows if row.balancer not in _REFERENCES]
    if not methods:
        return f"{problem.name}: {rows[0].title} reaches {problem.metric} {rows[0].result}."
    best, plain = methods[0], found.get(PLAIN_SUM)
    sentence = _reached(best.title, f"reaches {problem.metric}", best)
    if plain:
        sentence += f"; {_reached('the plain sum of the losses', 'reaches', plain)}"
    for label, who in (
        (RIGHT, "the right weights, known beforehand,"),
        (STATIC, "static weights, chosen on validation data,"),
    ):
        sentence += f", {_reached(who, 'reach', found[label])}" if label in found else ""
    return f"{_opening(best, plain, rows)}{sentence}."


def _opening(best: Standing, plain: Standing | None, rows: Sequence[Standing]) -> str:
    """What the numbers after it must not be taken for."""
    if best.failures:
        return "No balancer has a result for every seed: "
    if plain is None:
        return ""
    if _before(plain, best, rows):
        return "No balancer beats the plain sum here: "
    untold = len(best.runs) > 1 and verdicts(rows, plain)[best.balancer] == "alike"
    return f"{best.title} cannot be told from the plain sum here: " if untold else ""


def _reached(who: str, reaches: str, row: Standing) -> str:
    """What a row reached, in words; a mean over the seeds that survived is called one."""
    if not row.metric.count:
        return f"{who} had no result ({row.failures})"
    reached = f"{who} {reaches} {row.metric.mean:.3f}"
    return f"{reached} on the seeds that remain ({row.failures})" if row.failures else reached


def _before(first: Standing, second: Standing, rows: Sequence[Standing]) -> bool:
    order = [row.balancer for row in rows]
    return order.index(first.balancer) < order.index(second.balancer)


def verdict(rows: Sequence[Standing]) -> str:
    """What may be said of each method beside the plain sum.

    Args:
        rows: At least one.

    Returns:
        One sentence for each kind of verdict; why there is none, where nothing can be said.
    """
    plain = next((row for row in rows if row.balancer == PLAIN_SUM), None)
    if plain is None or len(rows) == 1:
        return "Nothing was held against the plain sum."
    if len(plain.runs) < 2:
        return "One seed tells no methods apart; the order is that of its numbers."
    found = verdicts(rows, plain)
    titles: dict[Verdict, list[str]] = {"better": [], "worse": [], "alike": []}
    for row in rows:
        if row.balancer in found:
            titles[found[row.balancer]].append(row.title)
    words = {
        "better": "better than the plain sum",
        "worse": "worse than the plain sum",
        "alike": "not told from the plain sum",
    }
    said = [f"{words[kind]}: {', '.join(those)}" for kind, those in titles.items() if those]
    tested = f"paired t-tests over {len(plain.runs)} seeds, Holm's correction for {len(found)} rows"
    sentence = "; ".join(said)
    return f"{sentence[0].upper()}{sentence[1:]} ({tested})."


def training_words(rows: Sequence[Standing]) -> str:
    """How long and how fast was trained, in a few words.

    Args:
        rows: At least one.

    Returns:
        Length, batches, learning rates, and the optimizer if it is not the problem's own.
    """
    options = rows[0].runs[0].options
    rates = sorted({run.options.lr for row in rows for tried in _tried(row) for run in tried})
    shown = ", ".join(f"{rate:g}" for rate in rates)
    rate = f"learning rate {shown}" if len(rates) == 1 else f"the best of the rates {shown}"
    optimizer = f", {options.optimizer}" if options.optimizer else ""
    return f"{options.length}, {rate}{optimizer}"


def _tried(row: Standing) -> list[list[Run]]:
    return row.tried or [row.runs]


def protocol(rows: Sequence[Standing]) -> str:
    """How the runs were made.

    Args:
        rows: At least one.

    Returns:
        Epochs, batch size, learning rate and seeds; what was chosen, and with what; what equal time
        means, where all had that.
    """
    counts = sorted({len(row.runs) for row in rows})
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    interval = (
        "one seed gives no interval"
        if counts[-1] == 1
        else "intervals and bands are 95 % t-intervals over the seeds"
    )
    sentence = (
        f"Every method trained the same model on the same batches: {training_words(rows)}; "
        f"seeds for each method: {seeds}; {interval}."
    )
    return " ".join(filter(None, [sentence, _choosing(rows), _equal_time(rows)]))


def _choosing(rows: Sequence[Standing]) -> str:
    if not any(row.choice for row in rows):
        return ""
    return (
        "Learning rates, options and static weights were chosen by the mean of the metric on "
        "validation data; what is shown is on test data."
    )


def _equal_time(rows: Sequence[Standing]) -> str:
    if rows[0].runs[0].options.seconds is None:
        return ""
    return (
        "Equally long means: as many steps as fit into the time by the price of the method's step, "
        "measured in turns beside the plain sum; measuring the metric does not count."
    )
