"""What `equipoise list` shows: methods with what they declare, one method's options, problems."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType

from rich.text import Text

import equipoise as eq
from equipoise.balancer import LooksAt
from equipoise.benchmarks.methods import (
    find_method,
    method_class,
    method_names,
    method_options,
    summary,
)
from equipoise.benchmarks.problems import PROBLEMS
from equipoise.gradients.measuring import KEPT
from equipoise.options import OptionSpec, options_of
from equipoise.pages.terminal_table import Column, TerminalTable
from equipoise.registry import capabilities

_LOOKS_AT: Mapping[LooksAt, str] = MappingProxyType(
    {
        "losses": "loss values",
        "norms": "gradient norms",
        "gramian": "the Gramian of the gradients",
        "gradients": "whole gradients",
    }
)


def catalogue() -> list[TerminalTable]:
    """One table of methods, one of problems."""
    return [_methods(), _problems()]


def method_card(written: str) -> list[Text | TerminalTable]:
    """One method: what it does, what it looks at, what its options are.

    Args:
        written: Its name, in any case, with or without ``_`` and ``-``.

    Returns:
        Two paragraphs and a table with a row for each option.

    Raises:
        RequestError: If there is no such method.
    """
    name = find_method(written)
    return [Text(f"{name}: {summary(name)}"), Text(_declaration(name)), _options(name)]


def _declaration(name: str) -> str:
    kind = method_class(name)
    if not issubclass(kind, eq.Balancer):
        return "Takes the losses apart and updates the parameters itself."
    declared = capabilities(kind.__name__)
    looks_at = _LOOKS_AT[declared.looks_at]
    where = "" if declared.watches is None else f", watched at {declared.watches!r}"
    gives = "one weight per loss" if declared.weighting else "a combined gradient"
    _, _, state, random, passes, alive = _declared(name)
    return (
        f"Looks at {looks_at}{where}; gives {gives}; state: {state}; random: {random}; "
        f"of T losses, backward passes through what is shared: {passes}, gradients alive: {alive}."
    )


def _options(name: str) -> TerminalTable:
    specs = method_options(name).values()
    example = next((spec.name for spec in specs if spec.writable), None)
    written = f"For --balancers, write {name}:{example}=...; one number per loss as 1/0.01."
    heads = ("default", "takes", "what it is")
    return TerminalTable(
        title="Options",
        columns=[Column("option", "name"), *(Column(head, "prose") for head in heads)],
        rows=[[spec.name, _default(name, spec), _takes(spec), spec.description] for spec in specs],
        caption=written if example is not None else "",
    )


def _default(name: str, spec: OptionSpec) -> str:
    """What holds where nothing is said: a method may set an option of its base otherwise."""
    if spec.required:
        return "required"
    if spec.name == "wrt":
        return str(capabilities(name).watches)
    shown: object = spec.default
    kind = method_class(name)
    if issubclass(kind, eq.Balancer) and spec.stated_by is not kind:
        built = getattr(_built(kind), spec.name, None)
        shown = built if isinstance(built, str | int | float) else shown
    return shown.__name__ if inspect.isclass(shown) else str(shown).lower()


def _built(kind: type[eq.Balancer]) -> eq.Balancer:
    needed = {key: [1.0, 1.0] for key, spec in options_of(kind).items() if spec.required}
    return eq.create_balancer(kind.__name__, 2, **needed)


def _takes(spec: OptionSpec) -> str:
    """How a value is written; the choices of a word, else the type as its author wrote it."""
    if not spec.writable:
        return f"in code only: {spec.annotation}"
    return ", ".join(map(str, spec.choices)) or spec.annotation


def _methods() -> TerminalTable:
    heads = ("looks at", "gives", "state", "random", "passes", "gradients\nalive", "what it does")
    return TerminalTable(
        title="Methods (T losses)",
        columns=[Column("method", "name"), *(Column(head, "prose") for head in heads)],
        rows=[[name, *_declared(name), summary(name)] for name in method_names()],
    )


def _declared(name: str) -> tuple[str, ...]:
    kind = method_class(name)
    if not issubclass(kind, eq.Balancer):  # an optimizer goes backward from one loss at a time
        return "gradients", "update", "yes", "no", "T", "1"
    method = capabilities(kind.__name__)
    return (
        method.looks_at,
        "weights" if method.weighting else "gradient",
        "yes" if method.stateful else "no",
        "yes" if method.random else "no",
        _in_losses(method.passes(10, nbytes=KEPT)),
        _in_losses(method.gradients_alive(10, nbytes=KEPT)),
    )


def _in_losses(count: int) -> str:
    """A count of ten losses, said of ``T``."""
    return {10: "T", 11: "T + 1"}.get(count, str(count))


def _problems() -> TerminalTable:
    return TerminalTable(
        title="Problems",
        columns=[Column("problem", "name"), Column("what it is", "prose")],
        rows=[[name, build().description] for name, build in PROBLEMS.items()],
    )
