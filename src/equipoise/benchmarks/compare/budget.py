"""How long methods are trained, where it is not by epochs: equally many steps, or equally long."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from equipoise.benchmarks.refusal import RequestError


@dataclass(frozen=True)
class Budget:
    """One of two ways to give every method the same.

    Args:
        steps: Equally many steps, whatever they cost.
        seconds: Equally long: a method whose step costs five plain steps takes a fifth of them.
    """

    steps: int | None = None
    seconds: float | None = None


def parse_budget(text: str) -> Budget:
    """Reads `--budget`.

    Args:
        text: ``"600steps"`` or ``"30s"``.

    Returns:
        The budget.

    Raises:
        RequestError: If it is neither.

    Example:
        >>> parse_budget("600steps"), parse_budget("30s")
        (Budget(steps=600, seconds=None), Budget(steps=None, seconds=30.0))
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(steps?|s)\s*", text)
    number, unit = (float(found[1]), found[2]) if found else (0.0, "")
    if unit == "s" and number > 0:
        return Budget(seconds=number)
    if unit.startswith("step") and number >= 1 and number.is_integer():
        return Budget(steps=int(number))
    raise RequestError(f"--budget is written 600steps or 30s; got {text!r}.")


def steps_within(seconds: float, plain_step: float, ratio: float) -> int:
    """How many steps a method takes in a given time.

    Args:
        seconds: The time.
        plain_step: Seconds for a step with the plain sum.
        ratio: The price of the method's step in plain steps.

    Returns:
        The number, at least one.

    Example:
        >>> steps_within(30.0, plain_step=0.01, ratio=5.0)
        600
    """
    return max(1, math.floor(seconds / (plain_step * ratio) + 1e-9))
