"""Brings the README's table of methods up to date: `price.py runs/bench/bench.json README.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from equipoise.benchmarks.price.prices import read_bench
from equipoise.benchmarks.price.readme import with_methods_table
from equipoise.benchmarks.request import RequestError


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
