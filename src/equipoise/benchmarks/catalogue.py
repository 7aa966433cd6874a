"""What `equipoise list` shows: the methods with what they declare, and the problems."""

from __future__ import annotations

from rich.table import Table

from equipoise.benchmarks.methods import method_names, summary
from equipoise.benchmarks.problems import PROBLEMS
from equipoise.registry import Capabilities, capabilities, list_balancers


def catalogue() -> list[Table]:
    """One table of methods, one of problems."""
    return [_methods(), _problems()]


def _methods() -> Table:
    table = Table(title="Methods (T losses)", title_justify="left", box=None, pad_edge=False)
    for head in ("method", "looks at", "gives", "state", "random", "passes", "gradients alive"):
        table.add_column(head, no_wrap=True)
    table.add_column("what it does")
    known = set(list_balancers())
    for name in method_names():
        cells = _declared(capabilities(name)) if name in known else ("",) * 6
        table.add_row(name, *cells, summary(name))
    return table


def _declared(method: Capabilities) -> tuple[str, ...]:
    return (
        method.looks_at,
        "weights" if method.weighting else "gradient",
        "yes" if method.stateful else "no",
        "yes" if method.random else "no",
        _in_losses(method.passes(10)),
        _in_losses(method.gradients_alive(10)),
    )


def _in_losses(count: int) -> str:
    """A count of ten losses, said of ``T``."""
    return {10: "T", 11: "T + 1"}.get(count, str(count))


def _problems() -> Table:
    table = Table(title="Problems", title_justify="left", box=None, pad_edge=False)
    table.add_column("problem", no_wrap=True)
    table.add_column("what it is")
    for name, build in PROBLEMS.items():
        table.add_row(name, build().description)
    return table
