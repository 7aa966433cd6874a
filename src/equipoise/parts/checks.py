"""Refusing hyperparameters out of range, in one voice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from equipoise.words import brief, did_you_mean


def check_choice(argument: str, given: str, choices: Sequence[str]) -> None:
    """Refuses what is none of the choices.

    Args:
        argument: What it is called in the error message.
        given: What was chosen.
        choices: What there is to choose from.

    Raises:
        ValueError: If ``given`` is not among the choices.
    """
    if given not in choices:
        *most, last = map(repr, choices)
        written = f"{', '.join(most)} or {last}" if most else last
        meant = did_you_mean(str(given), choices)
        msg = f"`{argument}` is {brief(given)}; write {written}.{meant}"
        raise ValueError(msg)


def check_positive(**numbers: float) -> None:
    """Refuses numbers that are not positive, NaN included.

    Args:
        numbers: By the name of the argument.

    Raises:
        ValueError: If one of them is not above zero.
    """
    for argument, number in numbers.items():
        if not number > 0:
            msg = f"`{argument}` is {number}; it must be positive."
            raise ValueError(msg)


def check_not_negative(**numbers: float) -> None:
    """Refuses negative numbers and NaN.

    Args:
        numbers: By the name of the argument.

    Raises:
        ValueError: If one of them is below zero.
    """
    for argument, number in numbers.items():
        if not number >= 0:
            msg = f"`{argument}` is {number}; it must not be negative."
            raise ValueError(msg)


def check_within(
    low: float,
    high: float,
    /,
    *,
    closed: Literal["both", "low", "high", "neither"] = "both",
    **numbers: float,
) -> None:
    """Refuses numbers outside an interval, NaN included.

    Args:
        low: Its lower end.
        high: Its upper end.
        closed: Which ends belong to it.
        numbers: By the name of the argument.

    Raises:
        ValueError: If one of them lies outside.
    """
    with_low, with_high = closed in ("both", "low"), closed in ("both", "high")
    left, right = "[" if with_low else "(", "]" if with_high else ")"
    for argument, number in numbers.items():
        above = low <= number if with_low else low < number
        below = number <= high if with_high else number < high
        if not (above and below):
            msg = f"`{argument}` is {number}; it must lie in {left}{low}, {high}{right}."
            raise ValueError(msg)


def check_steps(**numbers: int | None) -> None:
    """Refuses numbers of steps below 1; ``None`` stands for no such number.

    Args:
        numbers: By the name of the argument.

    Raises:
        ValueError: If one of them is below 1.
    """
    for argument, number in numbers.items():
        if number is not None and number < 1:
            msg = f"`{argument}` is {number}; it is a number of steps, at least 1, or None."
            raise ValueError(msg)


def check_shares(argument: str, numbers: Tensor, *, all_zero: bool = False) -> None:
    """Refuses one number per loss of which one is negative, or all are zero.

    Args:
        argument: What they are called in the error message.
        numbers: ``[T]``.
        all_zero: Whether all may be zero.

    Raises:
        ValueError: If they are no shares.
    """
    negative, zeros = bool((numbers < 0).any()), not all_zero and not bool(numbers.any())
    if negative or zeros:
        needed = "no entry may be negative" if all_zero else "no negative number and not only zeros"
        msg = f"`{argument}` is {numbers.tolist()}; {needed}."
        raise ValueError(msg)
