"""What happened in a training, in one sentence and in a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.monitor.curves import Array, Curves, curves_of, ends, mean
from equipoise.monitor.history import History

STEADY = 1.1
"""A weight that changed by less than this factor is called steady."""


def headline(history: History) -> str:
    """One sentence that says what happened.

    Args:
        history: A record.

    Returns:
        The method, how long, what became of losses, weights, shares and directions, and what was
        skipped.
    """
    method = history.header["method"]
    if not history.entries:
        return f"{method} has taken no step yet."
    curves = curves_of(history)
    steps = int(curves.steps[-1]) + 1
    parts = [part for part in _parts(history.names, curves) if part]
    return f"{method}, {steps:,} step{'s' * (steps > 1)}: {'; '.join(parts)}."


def _parts(names: Sequence[str], curves: Curves) -> Iterator[str]:
    yield _of_losses(names, curves)
    yield _of_weights(names, curves)
    yield _of_shares(names, curves)
    yield _of_conflicts(curves)
    yield _of_skips(names, curves)


def _of_losses(names: Sequence[str], curves: Curves) -> str:
    first, last = ends(curves.losses)
    fell = [name for name, a, b in zip(names, first, last, strict=True) if b < a]
    rose = [name for name, a, b in zip(names, first, last, strict=True) if b > a]
    if not rose:
        return "every loss fell" if len(fell) == len(names) > 1 else _verb(fell, "fell")
    return ", ".join(part for part in (_verb(fell, "fell"), _verb(rose, "rose")) if part)


def _of_weights(names: Sequence[str], curves: Curves) -> str:
    first, last = ends(curves.weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.abs(np.log(np.abs(last) / np.abs(first)))
    change = np.where(np.isfinite(change), change, -1.0)
    most = int(change.argmax())
    if change[most] < np.log(STEADY):
        return "the weights stayed as they were"
    went = "rose" if abs(last[most]) > abs(first[most]) else "fell"
    return f"the weight of {names[most]} {went} from {first[most]:.3g} to {last[most]:.3g}"


def _of_shares(names: Sequence[str], curves: Curves) -> str:
    shares = mean(curves.shares)
    if len(names) < 2 or not np.isfinite(shares).any():
        return ""
    most = int(np.nanargmax(shares))
    return f"{names[most]} made up {100 * shares[most]:.0f} % of the gradient"


def _of_conflicts(curves: Curves) -> str:
    if not curves.measured.any():
        return ""
    rates = mean(curves.conflicts)
    most = int(np.nanargmax(rates))
    if not rates[most] > 0:
        return "no two gradients ever pointed against each other"
    one, other = curves.pairs[most].split(":", 1)
    return (
        f"the gradients of {one} and {other} pointed against each other in "
        f"{100 * rates[most]:.0f} of 100 measured steps"
    )


def _of_skips(names: Sequence[str], curves: Curves) -> str:
    skipped = skips(curves)
    finite = np.isfinite(curves.losses) | np.isnan(curves.weights)  # or absent
    if not skipped.any():
        return "no step was skipped"
    most = int(skipped.max())
    whose = [name for name, bad in zip(names, ~finite.T, strict=True) if bad.any()]
    because = f" for what was not finite{' in ' + _listed(whose) if whose else ''}"
    return f"{most} step{'s were' if most > 1 else ' was'} skipped{because}"


def skips(curves: Curves) -> Array:
    """``[T]``, how many steps were skipped for each loss; a count that began anew goes on."""
    raised = np.diff(curves.skipped, axis=0, prepend=0.0)
    total: Array = np.where(raised < 0, curves.skipped, raised).sum(axis=0)
    return total


def _verb(names: Sequence[str], verb: str) -> str:
    return f"{_listed(names)} {verb}" if names else ""


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


@dataclass(frozen=True)
class Row:
    """What became of one loss: means over the first tenth of the steps and over the last."""

    name: str
    loss: tuple[float, float]
    weight: tuple[float, float]
    share: float
    skipped: int


def rows_of(history: History) -> list[Row]:
    """What became of each loss.

    Args:
        history: With at least one step.
    """
    curves = curves_of(history)
    losses, weights = (np.stack(ends(found), 1) for found in (curves.losses, curves.weights))
    shares, skipped = mean(curves.shares), skips(curves)
    return [
        Row(
            name,
            (float(losses[i, 0]), float(losses[i, 1])),
            (float(weights[i, 0]), float(weights[i, 1])),
            float(shares[i]),
            int(skipped[i]),
        )
        for i, name in enumerate(history.names)
    ]
