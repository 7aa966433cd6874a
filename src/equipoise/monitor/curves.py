"""`Curves`: a record as arrays over the steps, thinned to what a page can show."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from equipoise.monitor.history import History
from equipoise.record import pair_names

Array = NDArray[np.float64]

POINTS = 400
"""So many points of a curve can be told apart on a page; of more, neighbours are averaged."""

MOST_PAIRS = 45
"""Rows that a page has for pairs of losses: all of ten losses."""


@dataclass(frozen=True)
class Curves:
    """What was kept of a run, NaN where there is nothing.

    Attributes:
        steps: ``[K]``.
        losses: ``[K, T]``.
        weights: ``[K, T]``.
        shares: ``[K, T]``, each loss's part of the applied gradients' lengths.
        priorities: ``[K, T]``.
        skipped: ``[K, T]``, steps skipped so far.
        cosines: ``[K, T (T - 1) / 2]``.
        pairs: The names of the pairs.
    """

    steps: Array
    losses: Array
    weights: Array
    shares: Array
    priorities: Array
    skipped: Array
    cosines: Array
    pairs: tuple[str, ...]

    @property
    def measured(self) -> NDArray[np.bool_]:
        """``[K]``, at which steps gradients were compared."""
        return np.array([bool(row.any()) for row in np.isfinite(self.cosines)])

    @property
    def conflicts(self) -> Array:
        """``[K, T (T - 1) / 2]``, one where two gradients point against each other, else zero."""
        return np.where(np.isfinite(self.cosines), self.cosines < 0, np.nan)


def curves_of(history: History) -> Curves:
    """A record as arrays.

    Args:
        history: With at least one step.
    """
    entries, count = history.entries, len(history.names)
    pairs = tuple(pair_names(history.names).values())

    def table(rows: list[list[float] | None], width: int) -> Array:
        nothing = [np.nan] * width
        return np.array([nothing if row is None else row for row in rows]).reshape(len(rows), width)

    there = np.array([[i in entry.present for i in range(count)] for entry in entries])
    return Curves(
        steps=np.array([float(entry.step) for entry in entries]),
        losses=table([entry.losses for entry in entries], count),
        weights=np.where(there, table([entry.weights for entry in entries], count), np.nan),
        shares=table([entry.shares() for entry in entries], count),
        priorities=table([entry.priorities for entry in entries], count),
        skipped=table([entry.skipped for entry in entries], count),
        cosines=table([entry.cosines for entry in entries], len(pairs)),
        pairs=pairs,
    )


def most_opposed(curves: Curves, most: int = MOST_PAIRS) -> Curves:
    """The same with so many pairs at most: those whose mean cosines are lowest, in their order.

    Args:
        curves: Of any number of losses.
        most: How many pairs.
    """
    kept = np.sort(np.argsort(mean(curves.cosines), kind="stable")[:most])
    return replace(
        curves, cosines=curves.cosines[:, kept], pairs=tuple(curves.pairs[i] for i in kept)
    )


def thinned(steps: Array, rows: Array, points: int = POINTS) -> tuple[Array, Array]:
    """The same curve with so few points: means of neighbours, of those that are finite.

    Args:
        steps: ``[K]``.
        rows: ``[K, N]``.
        points: How many at most.

    Returns:
        ``[k]`` steps, each the first of its mean, and ``[k, N]``.

    Example:
        >>> thinned(np.arange(4.0), np.array([[1.0], [3.0], [np.nan], [5.0]]), points=2)
        (array([0., 2.]), array([[2.],
               [5.]]))
    """
    if len(steps) <= points:
        return steps, rows
    starts = np.unique(np.linspace(0, len(steps), points, endpoint=False).astype(int))
    finite = np.isfinite(rows)
    counts = np.add.reduceat(finite, starts, axis=0, dtype=float)
    sums = np.add.reduceat(np.where(finite, rows, 0.0), starts, axis=0)
    with np.errstate(invalid="ignore"):
        return steps[starts], np.where(counts > 0, sums / counts, np.nan)


def mean(rows: Array) -> Array:
    """The mean over the steps of what is finite, NaN where nothing is.

    Args:
        rows: ``[K, N]``.
    """
    finite = np.isfinite(rows)
    counts = finite.sum(axis=0)
    sums = np.where(finite, rows, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def ends(rows: Array) -> tuple[Array, Array]:
    """The mean over the first tenth of the steps, and over the last.

    Args:
        rows: ``[K, N]``.
    """
    tenth = max(1, len(rows) // 10)
    return mean(rows[:tenth]), mean(rows[-tenth:])
