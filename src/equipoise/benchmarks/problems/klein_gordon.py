"""A Klein-Gordon equation, solved by a network."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from equipoise.benchmarks.problem import Problem
from equipoise.benchmarks.problems.pinn import Equation, Field, physics, slopes, watched


def klein_gordon() -> Problem:
    r""":math:`u_{tt} - u_{xx} + u^3 = f` on :math:`x, t \in [0, 1]`.

    Boundary and initial values, and :math:`u_t = 0` at the beginning, are those of
    :math:`u = x \cos(5 \pi t) + (x t)^3`.

    Source: Wang, Teng & Perdikaris 2021 (arXiv 2001.04536).

    Returns:
        The problem.
    """
    equation = Equation(
        corners=torch.tensor([[0.0, 0.0], [1.0, 1.0]]),
        losses=_losses,
        exact=_exact,
        right_weights={"residual": 1.0, "boundary": 100.0, "initial": 100.0, "velocity": 100.0},
    )
    description = "A physics-informed network for a nonlinear Klein-Gordon equation."
    losses = ("residual", "boundary", "initial", "velocity")
    return physics("klein_gordon", description, losses, equation)


def _exact(points: Tensor) -> Tensor:
    x, t = points.unbind(dim=1)
    return x * (5 * math.pi * t).cos() + (x * t) ** 3


def _source(points: Tensor) -> Tensor:
    x, t = points.unbind(dim=1)
    bend_t = -((5 * math.pi) ** 2) * x * (5 * math.pi * t).cos() + 6 * x**3 * t
    return bend_t - 6 * x * t**3 + _exact(points) ** 3


def _losses(u: Field, unit: Tensor) -> Mapping[str, Tensor]:
    points = watched(unit)
    values = u(points)
    in_x, in_t = slopes(values, points)
    residual = slopes(in_t, points)[1] - slopes(in_x, points)[0] + values**3 - _source(unit)
    x, t = unit.unbind(dim=1)
    sides = torch.stack([(torch.arange(len(t)) % 2).to(t), t], dim=1)
    beginning = watched(torch.stack([x, torch.zeros_like(x)], dim=1))
    first = u(beginning)
    return {
        "residual": residual.square().mean(),
        "boundary": (u(sides) - _exact(sides)).square().mean(),
        "initial": (first - _exact(beginning.detach())).square().mean(),
        "velocity": slopes(first, beginning)[1].square().mean(),
    }
