"""Keeps for the site what a benchmark found: `price.py runs/bench/bench.json docs/prices.json`.

The pages of methods and their table are made from what is kept; nothing in them is typed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from equipoise.benchmarks.bench.prices import Bench, Price, read_bench
from equipoise.benchmarks.refusal import RequestError

EVERY = 10
OWN_GRAPHS = "pinn"


def kept_prices(bench: Bench) -> dict[str, object]:
    """What the site shows of a benchmark.

    Args:
        bench: Its setting nearest to ten losses on the multilayer perceptron is kept, and the times
            where each loss has a forward pass of its own, for the methods that were measured there.

    Returns:
        The setting, and by method the passes, the times and the memory.

    Raises:
        RequestError: If the benchmark is empty.
    """
    if not bench.prices:
        raise RequestError("The benchmark holds no price; run equipoise bench first.")
    nearest = min(bench.prices, key=lambda price: (price.model != "mlp", abs(price.losses - 10)))
    shown = {p.label: p for p in bench.prices if _setting(p) == _setting(nearest)}
    own_graphs = {p.label: p for p in bench.prices if _setting(p) == (OWN_GRAPHS, nearest.losses)}
    measured_with = {key: bench.settings[key] for key in ("device", "threads", "torch")}
    prices = {
        name: _kept(price, shown.get(f"{name}:every={EVERY}"), own_graphs.get(name))
        for name, price in sorted(shown.items())
        if price.method == name
    }
    return {"model": nearest.model, "losses": nearest.losses, **measured_with, "prices": prices}


def _setting(price: Price) -> tuple[str, int]:
    return price.model, price.losses


def _kept(price: Price, rare: Price | None, own_graphs: Price | None) -> dict[str, float]:
    kept = {"passes": price.through, "time": round(price.ratio, 2)}
    if rare is not None:
        kept["time_every_10"] = round(rare.ratio, 2)
    if own_graphs is not None:
        kept["time_own_graphs"] = round(own_graphs.ratio, 2)
    return {**kept, "memory": round(price.memory, 1)}


def main() -> None:
    """Writes the document anew."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: price.py BENCH_JSON DOCUMENT")
    source, document = map(Path, sys.argv[1:])
    try:
        kept = kept_prices(read_bench(source))
    except RequestError as error:
        raise SystemExit(str(error)) from None
    document.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
