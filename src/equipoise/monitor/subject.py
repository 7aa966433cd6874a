"""What a record says of the balancer or optimizer whose steps it keeps."""

from __future__ import annotations

import inspect
import platform
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import torch
from torch import Tensor

from equipoise.balancer import Balancer
from equipoise.monitor.history import Header
from equipoise.optim.base import MultiTermOptimizer
from equipoise.parallel.processes import Processes
from equipoise.words import brief
from equipoise.wrappers.base import Wrapper

Subject: TypeAlias = Balancer | MultiTermOptimizer[Any]
"""What leaves records: a balancer, or an optimizer for several losses."""


def check_subject(given: object) -> None:
    """Refuses what leaves no records.

    Raises:
        TypeError: If it is neither a balancer nor a multi-term optimizer.
    """
    if not isinstance(given, Balancer | MultiTermOptimizer):
        msg = (
            f"`balancer` is {brief(given)}; a Recorder keeps the steps of a balancer, such as "
            "GradNorm(['a', 'b']), or of MTAdam or AutoBalance."
        )
        raise TypeError(msg)


def processes_of(subject: Subject) -> Processes:
    """The processes that train together."""
    return subject.processes if isinstance(subject, Balancer) else subject._processes


def innermost(balancer: Balancer) -> Balancer:
    """The method below all wrappers, which has the priorities."""
    while isinstance(balancer, Wrapper):
        balancer = balancer.balancer
    return balancer


def looks_at_directions(subject: Subject) -> bool:
    """Whether records hold norms and cosines without anybody's help."""
    return isinstance(subject, Balancer) and subject.looks_at in ("gramian", "gradients")


def priorities_of(subject: Subject) -> Tensor | None:
    """``[T]``, those of the last step; ``None`` for an optimizer, which has none."""
    return innermost(subject).priorities if isinstance(subject, Balancer) else None


def skipped_of(subject: Subject, like: Tensor) -> Tensor:
    """``[T]``, how many steps were skipped so far for each loss; an optimizer knows their sum.

    Args:
        subject: Whose steps they are.
        like: On the device of the result.
    """
    if isinstance(subject, Balancer):
        return subject.skipped
    finiteness, device = subject._finiteness, like.device
    skipped = torch.as_tensor(finiteness.skipped, device=device)
    rested = [finiteness.rested.get(name, 0) for name in subject.names or ()]
    return torch.stack([skipped + torch.as_tensor(found, device=device) for found in rested])


def header_of(subject: Subject, names: tuple[str, ...], every: int, measure: int) -> Header:
    """What is said of a run before its steps.

    Args:
        subject: Whose steps are kept.
        names: Those of the losses.
        every: Each ``every``-th step is kept.
        measure: At each ``measure``-th norms and cosines are measured.
    """
    return {
        "method": method_of(subject),
        "names": list(names),
        "options": options_of(subject),
        "every": every,
        "measure": measure,
        "versions": {
            "equipoise": _own_version(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def method_of(subject: Subject) -> str:
    """The method, with the wrappers on top of it: ``Primary(Shares(UPGrad))``."""
    called = type(subject).__name__
    return f"{called}({method_of(subject.balancer)})" if isinstance(subject, Wrapper) else called


def options_of(subject: Subject) -> dict[str, object]:
    """The options of the method that are words or numbers, those of its wrappers in front."""
    if isinstance(subject, MultiTermOptimizer):
        group = subject.param_groups[0]
        skipped = {"params", "param_names", "losses", "steps"}
        return {name: _plain(value) for name, value in group.items() if name not in skipped}
    found: dict[str, object] = {}
    for name in _keywords(type(subject)):
        value = _plain(getattr(subject, name, None))
        if value is not None:
            found[name] = value
    return found | (options_of(subject.balancer) if isinstance(subject, Wrapper) else {})


def _keywords(kind: type) -> list[str]:
    """What the constructors of a class and its bases take by keyword."""
    constructors = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)]
    plain = [function for function in constructors if inspect.isfunction(function)]
    named = [name for function in plain for name in inspect.signature(function).parameters]
    return [name for name in dict.fromkeys(named) if name not in ("self", "losses", "balancer")]


def _plain(value: object) -> object:
    """Words and numbers as they are, a few numbers as a list; of others nothing."""
    if isinstance(value, Tensor):
        return value.tolist() if value.numel() <= 64 else None
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value if isinstance(value, bool | int | float | str) else None


@cache
def _own_version() -> str:
    try:
        return version("equipoise")
    except PackageNotFoundError:
        return "0+unknown"
