"""The methods of a comparison: how a user writes them, and what trains with them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

import equipoise as eq
from equipoise.benchmarks.problem import Trial
from equipoise.benchmarks.refusal import RequestError
from equipoise.optim import AutoBalance, MTAdam, MultiAdam
from equipoise.options import OptionSpec, options_of
from equipoise.registry import balancer_class
from equipoise.words import did_you_mean

Scalar: TypeAlias = bool | int | float | str | list[float] | None


@dataclass(frozen=True)
class Choice:
    """Values of an option to choose among, written ``0|0.5|1.5``.

    Args:
        values: At least two, in the order in which they were written.
    """

    values: tuple[Scalar, ...]


OptionValue: TypeAlias = Scalar | Choice

PLAIN_SUM = "equal"
"""The row that everybody else has to beat: the sum of the losses as they come."""

RIGHT = "right"
"""The reference row: fixed weights that undo the losses' scales, where the problem knows them."""

FIXED = "fixed"
FIRST_VALUES = "firstvalue"
RANDOM_WEIGHTS = "randomweights"

BASELINES = (PLAIN_SUM, RIGHT, FIRST_VALUES, RANDOM_WEIGHTS)
"""What a method has to be better than to be worth its price; ``right`` where it is known."""

TASK_PRIORITIZATION = "dynamictaskprioritization"

NTK_TRACE = "ntktrace"
"""Is told the kernel's diagonal point by point; a trial has losses, and no residuals."""

MULTI_TERM_OPTIMIZERS: Mapping[str, type[AutoBalance | MTAdam]] = MappingProxyType(
    {kind.__name__.lower(): kind for kind in (AutoBalance, MTAdam, MultiAdam)}
)
"""Methods that turn the losses into the update themselves, and so replace the optimizer.

Nowhere else in the benchmarks are they listed: compare, bench and list read them here.
"""

_WORDS: Mapping[str, Scalar] = {"true": True, "false": False, "none": None}


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

    @property
    def alternatives(self) -> tuple[Method, ...]:
        """The methods to choose among, one for each combination of `Choice`; or itself alone.

        Example:
            >>> (grid,) = parse_methods("gradnorm:alpha=0|1.5:every=1|10")
            >>> [method.label for method in grid.alternatives][:2]
            ['gradnorm:alpha=0:every=1', 'gradnorm:alpha=0:every=10']
        """
        open_ = {key: value for key, value in self.options.items() if isinstance(value, Choice)}
        return tuple(
            replace(self, options={**self.options, **dict(zip(open_, values, strict=True))})
            for values in itertools.product(*(choice.values for choice in open_.values()))
        )


def method_names() -> tuple[str, ...]:
    """Every method that a comparison can run: the balancers, the optimizers, and ``right``."""
    return tuple(sorted({*eq.list_balancers(), *MULTI_TERM_OPTIMIZERS, RIGHT}))


def methods_for(trial: Trial) -> tuple[Method, ...]:
    """What ``--balancers all`` means for a problem.

    Args:
        trial: A start of the problem.

    Returns:
        All methods, less those that need what this problem does not know, or an option.
    """
    left_out = {name for name in method_names() if _missing_options(Method(name))} | {NTK_TRACE}
    if trial.right_weights is None:
        left_out.add(RIGHT)
    if trial.kpis is None:
        left_out.add(TASK_PRIORITIZATION)
    return tuple(Method(name) for name in method_names() if name not in left_out)


def parse_methods(text: str) -> tuple[Method, ...]:
    """Reads `--balancers`.

    Args:
        text: Names separated by commas, each with options after colons, for example
            ``"equal,gradnorm:alpha=0.12:every=10,fixed:weights=1/0.01"``. Values between bars are
            to choose among: ``"gradnorm:alpha=0|0.5|1.5"``.

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


def method_class(name: str) -> type[eq.Balancer | AutoBalance | MTAdam]:
    """The class behind a method.

    Args:
        name: As `method_names` lists it.

    Returns:
        The class; ``right`` is `equipoise.Fixed`.
    """
    if name in MULTI_TERM_OPTIMIZERS:
        return MULTI_TERM_OPTIMIZERS[name]
    return balancer_class(FIXED if name == RIGHT else name)


def summary(name: str) -> str:
    """One line that says what a method does.

    Args:
        name: As `method_names` lists it.

    Returns:
        The first line of its class's documentation, without marks of code.

    Example:
        >>> summary("right")
        "The problem's own right weights, held fixed: a reference, where they are known."
    """
    if name == RIGHT:
        return "The problem's own right weights, held fixed: a reference, where they are known."
    return (inspect.getdoc(method_class(name)) or "").partition("\n")[0].replace("``", "")


def method_options(name: str) -> dict[str, OptionSpec]:
    """The options of a method.

    Args:
        name: As `method_names` lists it.

    Returns:
        The options of its class, less what ``right`` sets itself.

    Example:
        >>> options = method_options("gradnorm")
        >>> "alpha" in options, "every" in options, "wrt" in options
        (True, True, True)
    """
    set_by_right = {"weights"} if name == RIGHT else set()
    found = options_of(method_class(name))
    return {key: spec for key, spec in found.items() if key not in set_by_right}


def find_method(written: str) -> str:
    """The name of a method as `method_names` lists it.

    Args:
        written: The name in any case, with or without ``_`` and ``-``.

    Returns:
        The name.

    Raises:
        RequestError: If there is none; the message names the nearest.
    """
    name = written.strip().lower().replace("-", "").replace("_", "")
    if name not in method_names():
        nearest = did_you_mean(name, method_names())
        raise RequestError(f"Unknown balancer {written!r}.{nearest} `equipoise list` shows all.")
    return name


def _parse_method(text: str) -> Method:
    written, *options = text.split(":")
    name = find_method(written)
    method = Method(name, dict(_parse_option(name, option) for option in options))
    for missing in _missing_options(method):
        raise RequestError(
            f"{name!r} needs the option {missing!r}; write {name}:{missing}=..., "
            "numbers for several losses as 1/0.01."
        )
    return method


def _missing_options(method: Method) -> list[str]:
    known = method_options(method.name)
    return [key for key, spec in known.items() if spec.required and key not in method.options]


def _parse_option(method: str, text: str) -> tuple[str, OptionValue]:
    key, _, value = (part.strip() for part in text.partition("="))
    if not (key and value):
        raise RequestError(f"The option {text!r} of {method!r} is written name=value.")
    known = method_options(method)
    written = [name for name, spec in known.items() if spec.writable]
    if key not in known:
        takes = f"It takes {', '.join(written)}." if written else "It takes none."
        raise RequestError(f"{method!r} has no option {key!r}.{did_you_mean(key, known)} {takes}")
    if key not in written:
        call = f"{method_class(method).__name__}(..., {key}=...)"
        raise RequestError(
            f"The option {key!r} of {method!r} can only be given in code, as {call}; "
            f"it is {known[key].annotation}."
        )
    alternatives = [part.strip() for part in value.split("|") if part.strip()] or [value]
    read = [_read_as(method, key, known[key], part) for part in alternatives]
    distinct = tuple({_write(each): each for each in read}.values())
    return key, Choice(distinct) if len(distinct) > 1 else distinct[0]


def _read_as(method: str, key: str, spec: OptionSpec, value: str) -> Scalar:
    read = _read_one(value)
    if spec.admits(read):
        return read
    if spec.admits(value):
        return value  # a loss may be called 0: where a word is wanted, a number is one
    choices = ", ".join(map(str, spec.choices)) or spec.annotation
    nearest = did_you_mean(value, map(str, spec.choices))
    raise RequestError(f"{method}:{key}={value}: the option {key!r} takes {choices}.{nearest}")


def _read_one(text: str) -> Scalar:
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
    if isinstance(value, Choice):
        return "|".join(map(_write, value.values))
    if isinstance(value, list):
        return "/".join(f"{number:g}" for number in value)
    return str(value)
