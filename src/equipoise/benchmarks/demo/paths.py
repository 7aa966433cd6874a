"""The paths that methods take down a function of two numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias, cast

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from equipoise.benchmarks.compare.drawing import styles, worst_first
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.compare.training import train
from equipoise.benchmarks.methods import parse_methods
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.problems.descent import Position, beale, beale_parts
from equipoise.pages.picture_frame import GREY, INK, lay_out

Path: TypeAlias = list[tuple[float, float]]

_ACROSS, _UP = (-0.2, 4.6), (-1.25, 1.25)
_MINIMUM = (3.0, 0.5)
_DOTS = 50
"""From dot to dot, in steps."""


def paths_picture(rows: Sequence[Standing]) -> go.Figure:
    """The paths over the lines of equal value of Beale's function.

    Args:
        rows: Best first, of the problem `beale`.

    Returns:
        The figure, with one path for each row: that of its first seed.
    """
    drawn, figure = styles(rows), go.Figure(_contour())
    for rank, row in worst_first(rows):
        path = path_of(beale(), row.runs[0])
        style = drawn[row.balancer]
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in path],
                y=[y for _, y in path],
                mode="lines+markers",
                line={"color": style.colour, "dash": style.dash, "width": 2},
                marker={"color": style.colour, "size": [_size(step) for step in range(len(path))]},
                name=row.legend,
                legendrank=rank,
                hovertemplate=f"{row.title}<br>x %{{x:.3f}}, y %{{y:.3f}}<extra></extra>",
            )
        )
    figure.add_trace(_marked(_MINIMUM, "star", "the minimum"))
    lay_out(figure, height=430)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title="x", range=_ACROSS, zeroline=False)
    figure.update_yaxes(title="y", range=_UP, zeroline=False)
    return figure


def path_of(problem: Problem, run: Run) -> Path:
    """Where a finished run went, found by taking its steps again: the same, as seeds decide all.

    Args:
        problem: Of the run; its model is a `Position`.
        run: What it counted as its steps to the minimum is as far as it is followed.

    Returns:
        The start, and where each step ended.
    """
    path: Path = []
    (method,) = parse_methods(run.balancer)
    taken = run.metric_steps[-1] if run.metric is None else min(run.metric, run.metric_steps[-1])
    options = replace(run.options, epochs=None, steps=max(1, int(taken)))
    train(_followed(problem, path), method, options, run.seed, watch=lambda *_: None)
    return path


def _followed(problem: Problem, path: Path) -> Problem:
    """A problem that writes down where its model stands."""

    def start(seed: int) -> Trial:
        trial = problem.start(seed)
        position = cast("Position", trial.model)
        path[:] = [_place(position)]

        def step(update: Callable[[Mapping[str, Tensor]], None]) -> Mapping[str, Tensor]:
            losses = cast("Callable[..., Mapping[str, Tensor]]", trial.step)(update)
            path.append(_place(position))
            return losses

        return replace(trial, step=step)

    return replace(problem, start=start)


def _place(position: Position) -> tuple[float, float]:
    x, y = position.at.tolist()
    return x, y


def _size(step: int) -> int:
    return 6 if step % _DOTS == 0 else 0


def _contour() -> go.Contour:
    """Lines of equal value, in powers of ten; grey on both kinds of page."""
    across, up = torch.linspace(*_ACROSS, 97), torch.linspace(*_UP, 81)
    y, x = torch.meshgrid(up, across, indexing="ij")
    values = torch.stack(list(beale_parts(x, y).values())).sum(dim=0)
    heights = np.round(np.log10(values.clamp(min=1e-6).numpy()).astype(float), 3)
    return go.Contour(
        x=np.round(across.numpy().astype(float), 4),
        y=np.round(up.numpy().astype(float), 4),
        z=heights,
        contours={"coloring": "none", "start": -3, "end": 3, "size": 0.5},
        line={"color": GREY, "width": 0.7},
        showscale=False,
        showlegend=False,
        hoverinfo="skip",
    )


def _marked(place: tuple[float, float], symbol: str, name: str) -> go.Scatter:
    x, y = place
    return go.Scatter(
        x=[x],
        y=[y],
        mode="markers",
        marker={"symbol": symbol, "size": 15, "color": INK},
        name=name,
        showlegend=False,
        hovertemplate=f"{name}<extra></extra>",
    )
