"""What a user asked `equipoise bench` to measure."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast, get_args

import torch

import equipoise as eq
from equipoise.benchmarks.bench.cases import Knobs
from equipoise.benchmarks.bench.models import MODELS
from equipoise.benchmarks.bench.prices import Setting
from equipoise.benchmarks.methods import FIXED, RIGHT, Method, method_names, parse_methods
from equipoise.benchmarks.refusal import RequestError

NamedPlace: TypeAlias = Literal["shared", "last_shared", "representation"]


@dataclass(frozen=True)
class Preset:
    """What is measured where the command line says nothing.

    Args:
        losses: As `--losses` takes it.
        models: As `--models` takes it.
        rounds: As `--rounds` takes it.
    """

    losses: str
    models: str
    rounds: int


QUICK = Preset("10", "mlp,pinn", 7)
FULL = Preset("2,5,10,20,50", ",".join(MODELS), 15)


@dataclass(frozen=True)
class PriceRequest:
    """What to measure.

    Args:
        methods: The project's methods, with their options.
        losses: Numbers of losses, ``T``.
        models: Keys of `MODELS`.
        rounds: How often each step takes its turn, at least 2.
        knobs: What is set for every method that looks at gradients.
        peers: Whether other libraries are measured beside them.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        RequestError: If one of them cannot be measured.
    """

    methods: Sequence[Method]
    losses: Sequence[int]
    models: Sequence[str]
    rounds: int
    knobs: Knobs = field(default_factory=Knobs)
    peers: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuses what would fail after the first minutes."""
        if self.rounds < 2:
            raise RequestError(f"--rounds is at least 2, to show a spread; got {self.rounds}.")
        for losses in self.losses:
            if losses < 2:
                raise RequestError(f"--losses are at least 2; got {losses}.")
        for model in self.models:
            if model not in MODELS:
                raise RequestError(f"Unknown model {model!r}; there are {', '.join(MODELS)}.")
        if self.device not in ("cpu", "cuda"):
            raise RequestError(f"--device is cpu or cuda; got {self.device!r}.")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise RequestError("--device cuda: torch finds no such device here.")

    def settings(self) -> dict[str, Setting]:
        """How and with what it is measured, for whoever reads the results."""
        on_cuda = self.device == "cuda"
        return {
            "equipoise": eq.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": torch.cuda.get_device_name() if on_cuda else "cpu",
            "threads": torch.get_num_threads(),
            "rounds": self.rounds,
        }


def parse_priced_methods(text: str) -> list[Method]:
    """Reads `--balancers` of the benchmark.

    Args:
        text: As for `parse_methods`, or ``"all"``. A bare ``fixed`` gets weights of one.

    Returns:
        The methods; all but ``right``, which is `equipoise.Fixed` again.

    Raises:
        RequestError: If a name or an option is unknown.

    Example:
        >>> [method.label for method in parse_priced_methods("fixed,gradnorm:every=10")]
        ['fixed', 'gradnorm:every=10']
    """
    if text == "all":
        return [Method(name) for name in method_names() if name != RIGHT]
    parts = [part.strip() for part in text.split(",")]
    bare = [part for part in parts if part.lower() == FIXED]
    others = ",".join(part for part in parts if part not in bare)
    methods = [Method(FIXED)] if bare else []
    if bare and not others:
        return methods
    return [*methods, *(each for method in parse_methods(others) for each in method.alternatives)]


def parse_counts(option: str, text: str) -> tuple[int, ...]:
    """Reads a list of positive numbers.

    Args:
        option: Its name, for the message.
        text: Numbers separated by commas.

    Returns:
        The numbers, each once.

    Raises:
        RequestError: If it is none.

    Example:
        >>> parse_counts("--losses", "2,5,10")
        (2, 5, 10)
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise RequestError(f"{option} is a number or a list such as 2,5,10; got {text!r}.")
    return tuple(dict.fromkeys(int(part) for part in parts))


def parse_models(text: str) -> tuple[str, ...]:
    """Reads `--models`.

    Args:
        text: Keys of `MODELS` separated by commas.

    Returns:
        The names, each once; `PriceRequest` checks them.

    Example:
        >>> parse_models("mlp, conv")
        ('mlp', 'conv')
    """
    return tuple(dict.fromkeys(part.strip().lower() for part in text.split(",")))


def parse_wrt(text: str | None) -> NamedPlace | None:
    """Reads `--wrt`.

    Args:
        text: One of the named choices, or nothing.

    Returns:
        The choice.

    Raises:
        RequestError: If it is none of them.
    """
    if text is not None and text not in get_args(NamedPlace):
        raise RequestError(f"--wrt is {_either(get_args(NamedPlace))}; got {text!r}.")
    return cast("NamedPlace | None", text)


def _either(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}"
