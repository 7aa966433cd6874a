"""All methods in one table: what each looks at and gives, and what a step costs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import equipoise as eq
from equipoise.balancer import LooksAt
from equipoise.benchmarks.methods import (
    MULTI_TERM_OPTIMIZERS,
    RIGHT,
    method_class,
    method_names,
    summary,
)
from equipoise.registry import capabilities

PRICES: Mapping[str, Any] = json.loads(
    (Path(__file__).parents[1] / "prices.json").read_text(encoding="utf-8")
)
"""What `make prices` kept of the last benchmark."""

HEAD = (
    "Method",
    "What it does",
    "Looks at",
    "Gives",
    "Random",
    "Passes",
    "Time",
    "Time, `every=10`",
    "Memory",
)
OWN_GRAPHS = "Time, own graphs"


def methods_table(kept: Mapping[str, Any] = PRICES) -> str:
    """The methods, in the order of what they look at, which is that of their price.

    Args:
        kept: As ``scripts/price.py`` writes it.

    Returns:
        Markdown: the table and a paragraph that says what was measured.
    """
    own_graphs = any("time_own_graphs" in price for price in kept["prices"].values())
    head = (*HEAD, OWN_GRAPHS) if own_graphs else HEAD
    rows = [head, ("---",) * 6 + ("---:",) * (len(head) - 6)]
    rows += [row[: len(head)] for row in _rows(kept["prices"])]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", _note(kept)])


def methods_in_order() -> list[str]:
    """The names of all methods, the cheapest kind first."""
    return sorted((name for name in method_names() if name != RIGHT), key=_place)


def _place(name: str) -> tuple[int, str]:
    kind = method_class(name)
    order = get_args(LooksAt)
    return order.index(kind.looks_at) if issubclass(kind, eq.Balancer) else len(order), name


def _rows(prices: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[str, ...]]:
    for name in methods_in_order():
        title = method_class(name).__name__
        what = summary(name).replace("|", "\\|")
        yield (f"[`{title}`]({title}.md)", what, *declared(name), *_costs(prices.get(name)))


def declared(name: str) -> tuple[str, str, str]:
    """What a method looks at, what it gives, and whether it draws random numbers.

    Args:
        name: As in the registry.
    """
    if not issubclass(method_class(name), eq.Balancer):  # an optimizer gives the update itself
        return "gradients", "update", "no"
    known = capabilities(name)
    gives = "weights" if known.weighting else "gradient"
    return known.looks_at, gives, "yes" if known.random else "no"


def _costs(price: Mapping[str, float] | None) -> tuple[str, ...]:
    if price is None:
        return "", "not measured", "", "", ""
    times = [price.get(key) for key in ("time", "time_every_10", "time_own_graphs")]
    time, rare, own = ("" if found is None else f"{found:.2f}" for found in times)
    return f"{price['passes']:g}", time, rare, f"{price['memory']:.1f}", own


def _note(kept: Mapping[str, Any]) -> str:
    optimizers = " and ".join(f"`{kind.__name__}`" for kind in MULTI_TERM_OPTIMIZERS.values())
    return (
        f"Measured by `equipoise bench` on the model `{kept['model']}` with {kept['losses']} "
        f"losses ({kept['device']}, {kept['threads']} threads, torch {kept['torch']}). Passes: "
        "backward passes through the whole trunk. Time: that of a step over that of "
        f"`sum(losses).backward()`, for {optimizers} over that and Adam's update. Memory: the peak "
        "above the parameters in multiples of their size, gradients and activations included. "
        f"{OWN_GRAPHS}: where each loss has a forward pass of its own, with second derivatives."
    )
