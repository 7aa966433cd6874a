"""The columns that terminal and page show of a price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from equipoise.benchmarks.bench.prices import Price

COLUMNS = ("time", "quartiles", "ms", "memory", "passes", "at the top")

NOTES = (
    "time: of a step (forward and backward) over that of the plain sum, sum(losses).backward(), on "
    "the same model in the same process just before each turn. memory: the peak above the "
    "parameters, gradients and activations included, in multiples of the parameters' size. passes: "
    "backward passes through the whole shared trunk; at the top: those that reach it from the "
    "losses, some of which end there; a batched pass counts once. The steps of optimizers for "
    "several losses include the update and are compared with a plain sum and Adam's update."
)


def cells(price: Price) -> tuple[str, ...]:
    """A price as text, one cell for each of `COLUMNS`.

    Args:
        price: What was measured.

    Returns:
        The cells.
    """
    return (
        f"{price.ratio:.2f}",
        f"{price.low:.2f} - {price.high:.2f}",
        f"{price.milliseconds:.1f}",
        f"{price.memory:.1f}",
        f"{price.through:g}",
        f"{price.entering:g}",
    )


def unsteady(prices: Sequence[Price]) -> str:
    """Says whether the machine was too busy for some rows.

    Args:
        prices: What was measured.

    Returns:
        A sentence that names rows whose third quartile is half as large again as the first; empty
        where there is none.
    """
    found = [title(price) for price in prices if price.high > 1.5 * price.low]
    if not found:
        return ""
    return f"These times vary by half or more, measure again on an idle machine: {', '.join(found)}"


def title(price: Price) -> str:
    """What a row is called.

    Args:
        price: What was measured.

    Returns:
        Its label, and which way was fastest where there were several.
    """
    return f"{price.label} ({price.variant})" if price.variant else price.label


def by_setting(prices: Sequence[Price]) -> Iterator[tuple[str, list[Price]]]:
    """The prices of each model and number of losses.

    Args:
        prices: In the order in which they were measured.

    Yields:
        What was measured, in words, and its prices.
    """
    for (model, losses), group in groupby(prices, key=lambda found: (found.model, found.losses)):
        yield f"{model}, T = {losses}", list(group)
