"""A wave equation, solved by a network."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from equipoise.benchmarks.problem import Problem
from equipoise.benchmarks.problems.pinn import Equation, Field, physics, slopes, watched

_SPEED = 2.0


def wave() -> Problem:
    r""":math:`u_{tt} - 4 u_{xx} = 0` on :math:`x, t \in [0, 1]`, a string plucked in two modes.

    :math:`u = \sin(\pi x) \cos(2 \pi t) + \frac{1}{2} \sin(4 \pi x) \cos(8 \pi t)`: at rest at the
    beginning, and zero at both ends.

    Source: Wang, Yu & Perdikaris 2022 (arXiv 2007.14527).

    Returns:
        The problem.
    """
    equation = Equation(
        corners=torch.tensor([[0.0, 0.0], [1.0, 1.0]]),
        losses=_losses,
        exact=_exact,
        right_weights={"residual": 1.0, "boundary": 100.0, "initial": 100.0, "velocity": 1.0},
    )
    description = "A physics-informed network for a wave equation with two frequencies."
    return physics("wave", description, ("residual", "boundary", "initial", "velocity"), equation)


def _exact(points: Tensor) -> Tensor:
    x, t = (math.pi * points).unbind(dim=1)
    slow = x.sin() * (_SPEED * t).cos()
    return slow + (4 * x).sin() * (4 * _SPEED * t).cos() / 2


def _losses(u: Field, unit: Tensor) -> Mapping[str, Tensor]:
    points = watched(unit)
    in_x, in_t = slopes(u(points), points)
    residual = slopes(in_t, points)[1] - _SPEED**2 * slopes(in_x, points)[0]
    x, t = unit.unbind(dim=1)
    sides = torch.stack([(torch.arange(len(t)) % 2).to(t), t], dim=1)
    beginning = watched(torch.stack([x, torch.zeros_like(x)], dim=1))
    first = u(beginning)
    return {
        "residual": residual.square().mean(),
        "boundary": u(sides).square().mean(),
        "initial": (first - _exact(beginning.detach())).square().mean(),
        "velocity": slopes(first, beginning)[1].square().mean(),
    }
