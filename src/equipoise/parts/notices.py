"""What a balancer says once, where it would otherwise go wrong in silence."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Sequence

from equipoise.losses import Terms

IDLE_STEPS = 100
"""After how many steps in a row without learning a word is due."""


def warn_of_sign(method: str, names: Sequence[str], values: Sequence[float]) -> bool:
    """Warns of a negative loss, for which a method is not defined.

    Args:
        method: What it is called.
        names: Of the losses that are there.
        values: Theirs.

    Returns:
        Whether there was one.
    """
    for name, value in zip(names, values, strict=True):
        if -math.inf < value < 0:
            msg = (
                f"{method} is defined for losses that are not negative, and loss {name!r} is "
                f"{value:.4g}: its weights mean nothing there, or are not learned. Add a constant "
                "that keeps the loss positive, or take a method that does not look at values, "
                "such as UPGrad, PCGrad or InverseGradientNorm."
            )
            warnings.warn(msg, stacklevel=4)
            return True
    return False


def warn_of_zero(
    method: str, what: str, halting: Collection[str], names: Sequence[str], numbers: Sequence[float]
) -> bool:
    """Warns of a zero with which a method gives no weight to any other loss.

    Args:
        method: What it is called.
        what: Whose zero does that: ``"Loss"``, or ``"The gradient of loss"``.
        halting: The losses of which one is enough.
        names: Of the losses that are there.
        numbers: Their values, or the norms of their gradients.

    Returns:
        Whether there was one.
    """
    if len(names) == 1:
        return False
    for name, number in zip(names, numbers, strict=True):
        if number == 0 and name in halting:
            msg = (
                f"{what} {name!r} is exactly zero (met by construction, or empty in this batch), "
                f"and {method} gives the others no weight beside it: nothing is learned while that "
                "lasts. Leave the loss out of such steps, or take a method that goes on, such as "
                "InverseGradientNorm, UPGrad or Equal."
            )
            warnings.warn(msg, stacklevel=4)
            return True
    return False


def tell_graphless(terms: Terms, told: set[str]) -> None:
    """Warns once of each loss that has no graph, and so counts as absent.

    Args:
        terms: The losses of the step.
        told: What was said before; what is said now is added.
    """
    for i, _ in terms.constants:
        msg = (
            f"Loss {terms.names[i]!r} has no graph in this step (it is a number, was detached, "
            "or depends on no parameter), so it counts as absent. graphless='raise' makes this "
            "an error; None, or leaving it out of the mapping, says that it is meant."
        )
        if msg not in told:
            told.add(msg)
            warnings.warn(msg, stacklevel=3)


def warn_of_idleness(
    method: str, losses: Sequence[str], names: Sequence[str], values: Sequence[float]
) -> None:
    """Warns that nothing was learned for many steps in a row.

    Args:
        method: What it is called.
        losses: The names of all losses.
        names: Of those that are there in the last of these steps.
        values: Theirs.
    """
    infinite = [n for n, v in zip(names, values, strict=True) if not abs(v) < float("inf")]
    if infinite:
        why = f"loss {infinite[0]!r} is not finite; mend it, or leave it out of the steps"
    elif len(names) < len(losses):
        why = (
            f"only {', '.join(map(repr, names))} of {', '.join(map(repr, losses))} is there; call "
            "`backward` once per step, with the losses of all data sets"
        )
    else:
        why = "the formula has no finite result for these losses and gradients; take another method"
    warnings.warn(
        f"{method} has learned nothing in {IDLE_STEPS} steps in a row. In this one {why}.",
        stacklevel=4,
    )
