from __future__ import annotations

import io

from rich.console import Console

import equipoise as eq
from equipoise.benchmarks.catalogue import catalogue


def shown() -> list[str]:
    out = io.StringIO()
    for table in catalogue():
        Console(file=out, width=220).print(table)
    return out.getvalue().splitlines()


def test_every_method_and_problem_is_listed_with_what_it_declares() -> None:
    lines = {line.split()[0]: line.split() for line in shown() if line.split()}
    assert set(eq.list_balancers()) <= lines.keys()
    assert {"autobalance", "mtadam", "digits", "toy_regression"} <= lines.keys()
    assert lines["mgda"][1:7] == ["gramian", "weights", "no", "no", "T", "T"]
    assert lines["softadapt"][1:7] == ["losses", "weights", "yes", "no", "1", "0"]
    assert lines["graddrop"][1:5] == ["gradients", "gradient", "no", "yes"]
