"""The four comparisons of the demo: each with a method that it is about, and what it must beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import plotly.graph_objects as go

from equipoise.benchmarks.compare.pictures import metric_picture
from equipoise.benchmarks.compare.plan import Plan
from equipoise.benchmarks.compare.statistics import Standing
from equipoise.benchmarks.demo.paths import paths_picture

Draw: TypeAlias = Callable[[Sequence[Standing]], go.Figure]


@dataclass(frozen=True)
class Part:
    """One problem of the demo.

    Args:
        title: Of its section.
        plan: What is trained; the problem's name is that of the part's folder.
        method: The row that the part is about, by its label.
        picture: Draws the rows, best first.
        caption: What the picture shows.
    """

    title: str
    plan: Plan
    method: str
    picture: Draw
    caption: str

    @property
    def name(self) -> str:
        """What its folder is called."""
        return self.plan.problem

    def shortened(self, seeds: str | None, steps: int | None) -> Part:
        """The same with other seeds, or with fewer steps; ``None`` leaves its own."""
        plan = self.plan if seeds is None else replace(self.plan, seeds=seeds)
        return replace(self, plan=plan if steps is None else _of_length(plan, steps))


def _of_length(plan: Plan, steps: int) -> Plan:
    return replace(plan, epochs=None, steps=steps)


_SCALED_GRADNORM = "gradnorm:scale=first_value"
_SCALED_UNCERTAINTY = "uncertainty:scale=first_value"
_SOFTADAPT = "softadapt:source=paper:variant=normalized"
_DESCENT_SOFTADAPT = "softadapt:variant=loss_weighted"
_TOY_GRADNORM = "gradnorm:alpha=0.12"
"""As in the paper's own experiment on these tasks."""


def _named(*labels: str) -> str:
    return ",".join(labels)


PARTS = (
    Part(
        title="Ten losses with wrong weights",
        plan=Plan(
            problem="digits",
            balancers=_named(
                *("equal", "right", "firstvalue", "mtadam", _SCALED_GRADNORM),
                *(_SCALED_UNCERTAINTY, _SOFTADAPT, "softadapt"),
            ),
            seeds="10",
        ),
        method="mtadam",
        picture=metric_picture,
        caption="Test accuracy during training, mean and 95 % band over the seeds.",
    ),
    Part(
        title="Three tasks in their own units",
        plan=Plan(
            problem="three_tasks",
            balancers=_named(
                *("equal", "firstvalue", "mtadam", _SCALED_GRADNORM, _SCALED_UNCERTAINTY),
                *("uncertainty", _SOFTADAPT),
            ),
            seeds="5",
            steps=500,
        ),
        method=_SCALED_UNCERTAINTY,
        picture=metric_picture,
        caption=(
            "Delta_m during training: by how many percent the three tasks are better, on average, "
            "than models trained for one of them alone. Mean and 95 % band over the seeds."
        ),
    ),
    Part(
        title="Two tasks that differ in nothing but scale",
        plan=Plan(
            problem="toy_regression",
            balancers=_named(
                *(
                    "equal",
                    "right",
                    "firstvalue",
                    _TOY_GRADNORM,
                    f"{_TOY_GRADNORM}:scale=first_value",
                ),
                _SOFTADAPT,
            ),
            seeds="5",
            epochs=5,
        ),
        method=_TOY_GRADNORM,
        picture=metric_picture,
        caption=(
            "The test losses of both tasks, each over its value before training, added up. Mean "
            "and 95 % band over the seeds."
        ),
    ),
    Part(
        title="The way down Beale's function",
        plan=Plan(
            problem="beale",
            balancers=_named("equal", "firstvalue", _DESCENT_SOFTADAPT, "softadapt", "gradnorm"),
            seeds="6",
            lr="1e-2,2e-2",
        ),
        method=_DESCENT_SOFTADAPT,
        picture=paths_picture,
        caption=(
            "The paths from the first start to the minimum (the star), each at the rate chosen for "
            "its method, over lines of equal value; a dot stands where every fiftieth step ended."
        ),
    ),
)
"""In the order of the page. Seeds are few, so that all four take minutes; the intervals show it."""
