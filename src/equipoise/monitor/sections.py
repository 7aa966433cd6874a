"""The parts of a record's page: what each draws, and how it is told to those who see no picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from equipoise.monitor.curves import MOST_PAIRS, Curves, mean, most_opposed
from equipoise.monitor.history import History
from equipoise.monitor.pictures import areas, conflict_bars, heat_map, lines, steps_up
from equipoise.monitor.summary import rows_of, skips


@dataclass(frozen=True)
class Section:
    """A part of the page, with a picture for each run.

    Attributes:
        title: Its heading.
        explained: A sentence or two below it.
        draw: The picture of a run; ``None`` where there is nothing to show.
        spoken: What the picture shows, in words.
    """

    title: str
    explained: str
    draw: Callable[[History, Curves], go.Figure | None]
    spoken: Callable[[History, Curves], str]


def _losses(history: History, curves: Curves) -> go.Figure:
    return lines(history.names, curves.steps, curves.losses, "loss")


def _weights(history: History, curves: Curves) -> go.Figure:
    return lines(history.names, curves.steps, curves.weights, "weight")


def _shares(history: History, curves: Curves) -> go.Figure | None:
    known = np.isfinite(curves.shares).any()
    return areas(history.names, curves.steps, curves.shares) if known else None


def _cosines(_: History, curves: Curves) -> go.Figure | None:
    return heat_map(most_opposed(curves)) if curves.measured.any() else None


def _conflicts(_: History, curves: Curves) -> go.Figure | None:
    return conflict_bars(curves) if curves.measured.any() else None


def _skipped(history: History, curves: Curves) -> go.Figure | None:
    any_skipped = skips(curves).any()
    return steps_up(history.names, curves.steps, curves.skipped) if any_skipped else None


def _priorities(history: History, curves: Curves) -> go.Figure | None:
    if (curves.priorities == 1).all():
        return None
    return lines(history.names, curves.steps, curves.priorities, "priority")


def _spoken_losses(history: History, _: Curves) -> str:
    return _from_to((row.name, *row.loss) for row in rows_of(history))


def _spoken_weights(history: History, _: Curves) -> str:
    return _from_to((row.name, *row.weight) for row in rows_of(history))


def _spoken_shares(history: History, _: Curves) -> str:
    return ", ".join(f"{row.name} {100 * row.share:.0f} %" for row in rows_of(history))


def _spoken_cosines(_: History, curves: Curves) -> str:
    shown = most_opposed(curves)
    means = zip(shown.pairs, mean(shown.cosines), strict=True)
    return ", ".join(f"{pair} {cosine:.2f} on average" for pair, cosine in means)


def _spoken_conflicts(_: History, curves: Curves) -> str:
    rate = 100 * np.nanmean(curves.conflicts[curves.measured])
    return f"{rate:.0f} of 100 comparisons of two gradients found them in conflict"


def _spoken_skipped(history: History, curves: Curves) -> str:
    found = zip(history.names, skips(curves), strict=True)
    return ", ".join(f"{name} {number:.0f}" for name, number in found)


def _spoken_priorities(history: History, curves: Curves) -> str:
    found = zip(history.names, curves.priorities[0], curves.priorities[-1], strict=True)
    return _from_to(found)


def _from_to(found: Iterable[tuple[str, float, float]]) -> str:
    return ", ".join(f"{name} from {first:.3g} to {last:.3g}" for name, first, last in found)


SECTIONS = (
    Section(
        "Losses",
        "As the model gave them, before any weight. Click a name to hide its line, drag to zoom, "
        "double-click to go back.",
        _losses,
        _spoken_losses,
    ),
    Section(
        "Weights",
        "What each loss's gradient was multiplied with, priorities included.",
        _weights,
        _spoken_weights,
    ),
    Section(
        "Who moves the shared parameters",
        "Each loss's share of the gradient: its weight times the norm of its gradient, over the "
        "sum of all.",
        _shares,
        _spoken_shares,
    ),
    Section(
        "Which gradients agree",
        "Cosines between the gradients of each pair of losses. Blue: they point the same way, "
        "darkest at 1. Red: against each other, darkest at -1, so that a step for one is a step "
        f"against the other. Of more than {MOST_PAIRS} pairs, those with the lowest mean.",
        _cosines,
        _spoken_cosines,
    ),
    Section(
        "Conflicts per hundred steps",
        "At each measured step the gradients of every pair are compared: of a hundred comparisons, "
        "so many found a cosine below zero. The table says which pairs.",
        _conflicts,
        _spoken_conflicts,
    ),
    Section(
        "Skipped steps",
        "Steps from which nothing was learned, because a loss or a gradient was not finite, so "
        "far.",
        _skipped,
        _spoken_skipped,
    ),
    Section(
        "Priorities",
        "What multiplied each loss before the method saw it, as the schedules had it.",
        _priorities,
        _spoken_priorities,
    ),
)
