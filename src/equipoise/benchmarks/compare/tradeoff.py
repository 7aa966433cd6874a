"""Two tasks against each other, methods beside the curve of static weights (Xin et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from equipoise.benchmarks.compare.drawing import Style, styles, with_legend, worst_first
from equipoise.benchmarks.compare.rows import STATIC
from equipoise.benchmarks.compare.run import Run
from equipoise.benchmarks.compare.statistics import Interval, Standing, mean_interval
from equipoise.benchmarks.metrics import Metric
from equipoise.pages.picture_frame import GREY


def tradeoff_picture(standings: Sequence[Standing]) -> go.Figure | None:
    """Where each method ends between two tasks, and what static weights reach without one.

    A method is worth its price where it lies beyond the curve: on it, fixed weights do as well.

    Args:
        standings: Best first.

    Returns:
        The figure; ``None`` where the problem measures fewer than two metrics. Of more than two,
        the first two are drawn.
    """
    metrics = standings[0].runs[0].problem.metrics[:2]
    if len(metrics) < 2:
        return None
    figure, drawn = go.Figure(), styles(standings)
    for row in standings:
        if row.balancer == STATIC:
            _add_static(figure, row.tried, metrics)
    for rank, row in worst_first(standings):
        figure.add_trace(_point(row, metrics, drawn[row.balancer], rank))
    with_legend(figure, height=520)
    figure.update_xaxes(title=_title(metrics[0]))
    figure.update_yaxes(title=_title(metrics[1]))
    return figure


def ends(runs: Sequence[Run], metric: Metric) -> Interval:
    """A metric after the last step, over the runs that did not fail."""
    return mean_interval([run.metrics[metric.name][-1] for run in runs if not run.failed])


def front(
    points: Sequence[tuple[float, float]], higher: tuple[bool, bool]
) -> list[tuple[float, float]]:
    """The points that no other is better than in both coordinates, in the order of the first.

    Args:
        points: Any.
        higher: For each coordinate, whether more is better.

    Returns:
        The points of the front.

    Example:
        >>> front([(1, 3), (2, 2), (3, 3), (3, 1)], (False, False))
        [(1, 3), (2, 2), (3, 1)]
    """
    first, second = (1 if up else -1 for up in higher)
    kept: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda point: (-first * point[0], -second * point[1])):
        if not kept or second * y > second * kept[-1][1]:
            kept.append((x, y))
    return sorted(kept)


def _add_static(
    figure: go.Figure, tried: Sequence[Sequence[Run]], metrics: Sequence[Metric]
) -> None:
    found = [tuple(ends(runs, metric) for metric in metrics) for runs in tried if runs]
    points = [(x.mean, y.mean) for x, y in found if x.count and y.count]
    curve = front(points, (metrics[0].higher_is_better, metrics[1].higher_is_better))
    marker = {"color": GREY, "size": 6, "symbol": "circle-open"}
    for name, chosen, look in (
        ("static weights, each trial", points, {"mode": "markers", "marker": marker}),
        ("the best static weights", curve, {"mode": "lines", "line": {"color": GREY}}),
    ):
        xs, ys = zip(*chosen, strict=True) if chosen else ((), ())
        figure.add_trace(go.Scatter(x=xs, y=ys, name=name, **look))


def _point(row: Standing, metrics: Sequence[Metric], style: Style, rank: int) -> go.Scatter:
    x, y = (ends(row.runs, metric) for metric in metrics)
    return go.Scatter(
        x=[x.mean],
        y=[y.mean],
        error_x={"array": [x.half_width or 0.0], "thickness": 1},
        error_y={"array": [y.half_width or 0.0], "thickness": 1},
        mode="markers",
        marker={"color": style.colour, "size": 12},
        name=row.legend,
        legendrank=rank,
        hovertemplate=f"{row.title}: {x}, {y}<extra></extra>",
    )


def _title(metric: Metric) -> str:
    better = "higher" if metric.higher_is_better else "lower"
    return f"{metric.name} ({better} is better)"
