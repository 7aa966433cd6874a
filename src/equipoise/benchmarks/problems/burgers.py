"""Burgers' equation, solved by a network; the exact solution by quadrature."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from equipoise.benchmarks.problem import Problem
from equipoise.benchmarks.problems.pinn import Equation, Field, physics, slopes, watched

VISCOSITY = 0.01 / math.pi
_NODES = 100


def burgers() -> Problem:
    r""":math:`u_t + u u_x = \nu u_{xx}` from a sine, with :math:`\nu = 0.01 / \pi`.

    :math:`u(x, 0) = -\sin(\pi x)` on :math:`x \in [-1, 1]`, :math:`t \in [0, 1]`, zero at both
    ends; a shock forms at ``x = 0``.

    Source: Raissi, Perdikaris & Karniadakis 2019 (arXiv 1711.10561).

    Returns:
        The problem.
    """
    equation = Equation(
        corners=torch.tensor([[-1.0, 0.0], [1.0, 1.0]]),
        losses=_losses,
        exact=exact,
        right_weights={"residual": 1.0, "boundary": 10.0, "initial": 10.0},
    )
    description = "A physics-informed network for Burgers' equation, in which a shock forms."
    return physics("burgers", description, ("residual", "boundary", "initial"), equation)


def exact(points: Tensor) -> Tensor:
    r"""The solution by the Cole-Hopf transform.

    :math:`u = -\int \sin(\pi y) f(y) g(x - y) dy \,/ \int f(y) g(x - y) dy` with
    :math:`f(y) = e^{-\cos(\pi y) / 2 \pi \nu}` and :math:`g(\eta) = e^{-\eta^2 / 4 \nu t}`, both by
    Gauss-Hermite quadrature with 100 nodes (Basdevant et al. 1986).

    Args:
        points: ``[N, 2]``, position and time.

    Returns:
        ``[N]``, with an absolute error below 1e-6.
    """
    nodes, weights = map(torch.tensor, np.polynomial.hermite.hermgauss(_NODES))
    x, t = points.double().unbind(dim=1)
    shifted = math.pi * (x[:, None] - 2 * (VISCOSITY * t[:, None]).sqrt() * nodes)
    # The exponent without its maximum, which cancels in the ratio and would overflow.
    exponent = -shifted.cos() / (2 * math.pi * VISCOSITY)
    kernel = weights * (exponent - exponent.amax(dim=1, keepdim=True)).exp()
    return (-(shifted.sin() * kernel).sum(dim=1) / kernel.sum(dim=1)).to(points)


def _losses(u: Field, unit: Tensor) -> Mapping[str, Tensor]:
    points = watched(unit * unit.new_tensor([2.0, 1.0]) - unit.new_tensor([1.0, 0.0]))
    values = u(points)
    in_x, in_t = slopes(values, points)
    residual = in_t + values * in_x - VISCOSITY * slopes(in_x, points)[0]
    x, t = points.detach().unbind(dim=1)
    sides = torch.stack([1 - 2 * (torch.arange(len(t)) % 2).to(t), t], dim=1)
    beginning = torch.stack([x, torch.zeros_like(x)], dim=1)
    return {
        "residual": residual.square().mean(),
        "boundary": u(sides).square().mean(),
        "initial": (u(beginning) + (math.pi * x).sin()).square().mean(),
    }
