"""The methods of a comparison: how a user writes them, and what trains with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import equipoise as eq
from equipoise.benchmarks.problem import Trial
from equipoise.benchmarks.request import RequestError

OptionValue: TypeAlias = bool | int | float | str | list[float] | None

PLAIN_SUM = "equal"
"""The row that everybody else has to beat: the sum of the losses as they come."""

RIGHT = "right"
"""The reference row: fixed weights that undo the losses' scales, where the problem knows them."""

FIXED = "fixed"
TASK_PRIORITIZATION = "dynamictaskprioritization"

MULTI_TERM_OPTIMIZERS = ("mtadam",)
"""Methods that turn the losses into the update themselves, and so replace the optimizer."""

_WORDS: Mapping[str, OptionValue] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Method:
    """One row of a comparison: a method's name and the options that differ from its defaults.

    Args:
        name: As `method_names` lists it.
        options: By name, as the method's constructor takes them.

    Example:
        >>> Method("gradnorm", {"alpha": 0.12}).label
        'gradnorm:alpha=0.12'
    """

    name: str
    options: Mapping[str, OptionValue] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The method as a user writes it, options sorted: what its results are filed under."""
        options = (f"{key}={_write(self.options[key])}" for key in sorted(self.options))
        return ":".join((self.name, *options))


def method_names() -> tuple[str, ...]:
    """Every method that a comparison can run: the balancers, the optimizers, and ``right``."""
    return tuple(sorted({*eq.list_balancers(), *MULTI_TERM_OPTIMIZERS, RIGHT}))


def methods_for(trial: Trial) -> tuple[Method, ...]:
    """What ``--balancers all`` means for a problem.

    Args:
        trial: A start of the problem.

    Returns:
        All methods, less those that need what this problem does not know.
    """
    left_out = {FIXED}  # it has no weights of its own to run with
    if trial.right_weights is None:
        left_out.add(RIGHT)
    if trial.kpis is None:
        left_out.add(TASK_PRIORITIZATION)
    return tuple(Method(name) for name in method_names() if name not in left_out)


def parse_methods(text: str) -> tuple[Method, ...]:
    """Reads `--balancers`.

    Args:
        text: Names separated by commas, each with options after colons, for example
            ``"equal,gradnorm:alpha=0.12:every=10,fixed:weights=1/0.01"``.

    Returns:
        The methods, in order, each once.

    Raises:
        RequestError: If a name is unknown, or an option is not written ``name=value``.

    Example:
        >>> [method.label for method in parse_methods("equal, Grad-Norm:every=10:alpha=0.12")]
        ['equal', 'gradnorm:alpha=0.12:every=10']
    """
    methods = [_parse_method(part.strip()) for part in text.split(",") if part.strip()]
    if not methods:
        raise RequestError("--balancers names no method; write for example equal,mtadam or all.")
    return tuple({method.label: method for method in methods}.values())


def _parse_method(text: str) -> Method:
    written, *options = text.split(":")
    name = written.strip().lower().replace("-", "").replace("_", "")
    known = method_names()
    if name not in known:
        raise RequestError(f"Unknown balancer {written!r}; {_suggestion(name, known)}")
    return Method(name, dict(_parse_option(name, option) for option in options))


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}`equipoise list` shows all."


def _parse_option(method: str, text: str) -> tuple[str, OptionValue]:
    key, separator, value = text.partition("=")
    if not (separator and key.strip().isidentifier() and value.strip()):
        raise RequestError(f"The option {text!r} of {method!r} is written name=value.")
    return key.strip(), _read(value.strip())


def _read(text: str) -> OptionValue:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return [float(part) for part in text.split("/")] if "/" in text else _read_number(text)
    except ValueError:
        return text


def _read_number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _write(value: OptionValue) -> str:
    if isinstance(value, list):
        return "/".join(f"{number:g}" for number in value)
    return str(value)
