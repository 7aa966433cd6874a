"""Brings the README's table of methods up to date: `price.py runs/bench/bench.json README.md`.

The table comes from the registry and from what was measured; nothing in it is typed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import equipoise as eq
from equipoise.balancer import LooksAt
from equipoise.benchmarks.bench.prices import Bench, Price, read_bench
from equipoise.benchmarks.methods import (
    MULTI_TERM_OPTIMIZERS,
    RIGHT,
    method_class,
    method_names,
    summary,
)
from equipoise.benchmarks.refusal import RequestError
from equipoise.registry import capabilities

BEGIN, END = "<!-- methods -->", "<!-- /methods -->"
EVERY = 10
PINN = "pinn"


def with_methods_table(text: str, bench: Bench) -> str:
    """A document whose table of methods is up to date.

    Args:
        text: Has the lines ``<!-- methods -->`` and ``<!-- /methods -->``; what stands between them
            is replaced.
        bench: Where the prices come from.

    Returns:
        The new text.

    Raises:
        RequestError: If a marker is missing, or the benchmark is empty.
    """
    before, begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not (begin and end):
        raise RequestError(f"The document needs the lines {BEGIN} and {END}, in this order.")
    return f"{before}{BEGIN}\n{methods_table(bench)}\n{END}{after}"


def methods_table(bench: Bench) -> str:
    """The methods, what they look at and what a step costs.

    Args:
        bench: Its setting nearest to ten losses on the multilayer perceptron is shown.

    Returns:
        Markdown: the table and a sentence that says what was measured.

    Raises:
        RequestError: If the benchmark is empty.
    """
    if not bench.prices:
        raise RequestError("The benchmark holds no price; run equipoise bench first.")
    nearest = min(bench.prices, key=lambda price: (price.model != "mlp", abs(price.losses - 10)))
    shown = [price for price in bench.prices if _setting(price) == _setting(nearest)]
    head = (
        "Method",
        "What it does",
        "Looks at",
        "Gives",
        "Random",
        "Passes",
        "Time",
        f"Time, `every={EVERY}`",
        "Memory",
    )
    rows = [head, ("---",) * 6 + ("---:",) * 3, *_rows(shown)]
    own_graphs = {p.label: p for p in bench.prices if _setting(p) == (PINN, nearest.losses)}
    if own_graphs:
        rows = [(*row, cell) for row, cell in zip(rows, _pinn_column(own_graphs), strict=True)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", _note(bench, nearest)])


def _setting(price: Price) -> tuple[str, int]:
    return price.model, price.losses


def _rows(prices: list[Price]) -> Iterator[tuple[str, ...]]:
    found = {price.label: price for price in prices}
    for name in sorted(method_names(), key=_place):
        if name != RIGHT:
            rare = found.get(f"{name}:every={EVERY}")
            yield (*_capabilities(name), *_costs(found.get(name), rare))


def _pinn_column(found: Mapping[str, Price]) -> Iterator[str]:
    """What the same steps cost where each loss has a forward pass of its own."""
    yield from ("Time, PINN", "---:")
    for name in sorted(method_names(), key=_place):
        if name != RIGHT:
            yield f"{found[name].ratio:.2f}" if name in found else ""


def _place(name: str) -> tuple[int, str]:
    """Methods stand in the order of what they look at, which is that of their price."""
    kind = method_class(name)
    order = get_args(LooksAt)
    return order.index(kind.looks_at) if issubclass(kind, eq.Balancer) else len(order), name


def _capabilities(name: str) -> tuple[str, ...]:
    """What the class declares; an optimizer for several losses gives the update itself."""
    kind = method_class(name)
    sentence = summary(name).replace("|", "\\|")
    if not issubclass(kind, eq.Balancer):
        return f"`{kind.__name__}`", sentence, "gradients", "update", "no"
    known = capabilities(name)
    gives = "weights" if known.weighting else "gradient"
    return f"`{kind.__name__}`", sentence, known.looks_at, gives, "yes" if known.random else "no"


def _costs(price: Price | None, rare: Price | None) -> tuple[str, str, str, str]:
    if price is None:
        return "", "not measured", "", ""
    sometimes = "" if rare is None else f"{rare.ratio:.2f}"
    return f"{price.through:g}", f"{price.ratio:.2f}", sometimes, f"{price.memory:.1f}"


def _note(bench: Bench, shown: Price) -> str:
    settings = bench.settings
    *most, last = (f"`{kind.__name__}`" for kind in MULTI_TERM_OPTIMIZERS.values())
    optimizers = f"{', '.join(most)} and {last}"
    return (
        f"Measured by `equipoise bench` on the model `{shown.model}` with {shown.losses} losses "
        f"({settings['device']}, {settings['threads']} threads, torch {settings['torch']}): "
        "backward passes through the whole trunk; time of a step over that of "
        f"`sum(losses).backward()`, for {optimizers} over that and Adam's update; peak memory "
        "above the parameters in multiples of their size, gradients and activations included. "
        "PINN: that time where each loss has a forward pass of its own, with second derivatives."
    )


def main() -> None:
    """Rewrites the document in place."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: price.py BENCH_JSON DOCUMENT")
    source, document = map(Path, sys.argv[1:])
    try:
        text = with_methods_table(document.read_text(encoding="utf-8"), read_bench(source))
    except RequestError as error:
        raise SystemExit(str(error)) from None
    document.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
