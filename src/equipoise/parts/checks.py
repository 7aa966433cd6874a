"""Refusing hyperparameters out of range, in one voice."""

from __future__ import annotations

from collections.abc import Sequence


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
        msg = f"`{argument}` is {given!r}; write {written}."
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
