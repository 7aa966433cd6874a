"""Two classical functions in parts, under plain gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from equipoise.benchmarks.metrics import Metric
from equipoise.benchmarks.problem import Problem, Trial

SOLVED = 1e-4
"""The value of the function below which it counts as minimised."""

METRICS = (
    Metric("steps to the minimum", higher_is_better=False),
    Metric("function value", higher_is_better=False),
)

Parts: TypeAlias = Callable[[Tensor, Tensor], Mapping[str, Tensor]]


def rosenbrock() -> Problem:
    r"""Rosenbrock's valley :math:`(1 - x)^2 + 100 (y - x^2)^2` as two losses.

    Each seed is a start, uniform in :math:`[-2, 2]^2`, of plain gradient descent; take twenty. The
    metric is the number of steps until the function (the plain sum, whatever the weights) is below
    1e-4; a run that does not get there is given one step more than it had. Every method wants its
    own learning rate.

    Source: Heydari et al. 2019 (arXiv 1912.12355), who show one start.

    Returns:
        The problem.
    """
    corners = torch.tensor([[-2.0, -2.0], [2.0, 2.0]])
    return Problem(
        name="rosenbrock",
        description="Rosenbrock's valley in two parts: plain descent from a start for each seed.",
        losses=("slope", "valley"),
        metric=METRICS[0].name,
        higher_is_better=False,
        start=lambda seed: _start(seed, rosenbrock_parts, corners, steps=5000),
        lr=2e-3,
        balancers=("equal", "softadapt", "softadapt:variant=loss_weighted", "gradnorm", "upgrad"),
        labels={"equal": "plain descent"},
        steps=5000,
        metrics=METRICS,
    )


def beale() -> Problem:
    r"""Beale's function :math:`\sum_{k=1}^3 (c_k - x + x y^k)^2` as three losses.

    :math:`c = (1.5, 2.25, 2.625)`, and the minimum lies at (3, 0.5). Starts are uniform in
    :math:`[0, 4] \times [-1, 1]`, whence plain descent comes to the minimum at a fit rate; from
    elsewhere it may run off. All else is as for `rosenbrock`.

    Source: Heydari et al. 2019 (arXiv 1912.12355).

    Returns:
        The problem.
    """
    corners = torch.tensor([[0.0, -1.0], [4.0, 1.0]])
    return Problem(
        name="beale",
        description="Beale's function in three parts: plain descent from a start for each seed.",
        losses=("first", "second", "third"),
        metric=METRICS[0].name,
        higher_is_better=False,
        start=lambda seed: _start(seed, beale_parts, corners, steps=1000),
        lr=1e-2,
        balancers=("equal", "softadapt", "softadapt:variant=loss_weighted", "gradnorm", "upgrad"),
        labels={"equal": "plain descent"},
        steps=1000,
        metrics=METRICS,
    )


def rosenbrock_parts(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The two parts, of the shape of ``x`` and ``y``.

    Example:
        >>> one = torch.ones(())
        >>> {name: float(part) for name, part in rosenbrock_parts(one, one).items()}
        {'slope': 0.0, 'valley': 0.0}
    """
    return {"slope": (1 - x).square(), "valley": 100 * (y - x.square()).square()}


def beale_parts(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The three parts, of the shape of ``x`` and ``y``.

    Example:
        >>> parts = beale_parts(torch.tensor(3.0), torch.tensor(0.5))
        >>> {name: float(part) for name, part in parts.items()}
        {'first': 0.0, 'second': 0.0, 'third': 0.0}
    """
    constants = {"first": 1.5, "second": 2.25, "third": 2.625}
    return {
        name: (constant - x + x * y**power).square()
        for power, (name, constant) in enumerate(constants.items(), start=1)
    }


class Position(nn.Module):
    """A point of the plane, and how many steps it has taken on its way down.

    Args:
        start: ``[2]``.
        parts: The function, in parts.
    """

    def __init__(self, start: Tensor, parts: Parts) -> None:
        super().__init__()
        self.at = nn.Parameter(start)
        self.parts = parts
        self.taken = 0
        self.solved: int | None = None

    def forward(self) -> dict[str, Tensor]:
        """The parts where it stands."""
        x, y = self.at
        return dict(self.parts(x, y))

    def note(self, losses: Mapping[str, Tensor]) -> None:
        """Counts a step that is taken with these losses."""
        if self.solved is None and sum(loss.item() for loss in losses.values()) < SOLVED:
            self.solved = self.taken
        self.taken += 1


def _start(seed: int, parts: Parts, corners: Tensor, steps: int) -> Trial:
    generator = torch.Generator().manual_seed(seed)
    low, high = corners
    position = Position(low + (high - low) * torch.rand(2, generator=generator), parts)

    def step(update: Callable[[Mapping[str, Tensor]], None]) -> Mapping[str, Tensor]:
        losses: Mapping[str, Tensor] = position()
        position.note(losses)
        update(losses)
        return losses

    def evaluate() -> dict[str, float]:
        value = float(sum(position().values()))
        if position.solved is None and value < SOLVED:  # by the very last step
            return {METRICS[0].name: position.taken, METRICS[1].name: value}
        count = position.solved if position.solved is not None else max(steps, position.taken) + 1
        return {METRICS[0].name: count, METRICS[1].name: value}

    return Trial(
        model=position,
        data=(),
        compute_losses=position,
        evaluate=evaluate,
        validate=evaluate,  # nothing is learned from data: what is minimised is what counts
        step=step,
        optimizer=torch.optim.SGD,
    )
