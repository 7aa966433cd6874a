"""A Helmholtz equation, solved by a network."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from equipoise.benchmarks.problem import Problem
from equipoise.benchmarks.problems.pinn import Equation, Field, physics, slopes, watched

_ACROSS, _UP = 1.0, 4.0


def helmholtz() -> Problem:
    r""":math:`\Delta u + u = q` on :math:`[-1, 1]^2` with :math:`u = 0` on the boundary.

    ``q`` is made so that :math:`u = \sin(\pi x) \sin(4 \pi y)`. The residual's second derivatives
    make it some ten thousand times larger than the boundary's values.

    Source: Wang, Teng & Perdikaris 2021 (arXiv 2001.04536).

    Returns:
        The problem.
    """
    equation = Equation(
        corners=torch.tensor([[-1.0, -1.0], [1.0, 1.0]]),
        losses=_losses,
        exact=_exact,
        right_weights={"residual": 1.0, "boundary": 100.0},
    )
    description = "A physics-informed network for a Helmholtz equation with a known solution."
    return physics("helmholtz", description, ("residual", "boundary"), equation)


def _exact(points: Tensor) -> Tensor:
    x, y = (math.pi * points).unbind(dim=1)
    return (_ACROSS * x).sin() * (_UP * y).sin()


def _losses(u: Field, unit: Tensor) -> Mapping[str, Tensor]:
    points = watched(2 * unit - 1)
    values = u(points)
    across, up = slopes(values, points)
    laplacian = slopes(across, points)[0] + slopes(up, points)[1]
    source = (1 - math.pi**2 * (_ACROSS**2 + _UP**2)) * _exact(points.detach())
    residual = laplacian + values - source
    return {"residual": residual.square().mean(), "boundary": u(_edges(unit)).square().mean()}


def _edges(unit: Tensor) -> Tensor:
    """The points pushed to the four sides in turn."""
    sides = torch.tensor([[-1.0, math.nan], [1.0, math.nan], [math.nan, -1.0], [math.nan, 1.0]])
    chosen = sides[torch.arange(len(unit)) % 4]
    return torch.where(chosen.isnan(), 2 * unit - 1, chosen)
