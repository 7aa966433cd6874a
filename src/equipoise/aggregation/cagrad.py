"""CAGrad: conflict-averse gradient descent (Liu et al. 2021)."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import numpy as np
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice, check_within
from equipoise.parts.reduction import Reduction
from equipoise.parts.solve import Matrix, solve_gramian
from equipoise.solvers import cagrad_weights, dual_cone_projection
from equipoise.solvers.scaling import norm_bounds


class CAGrad(Aggregation):
    r"""Looks around the mean gradient for the update that helps the worst-off loss most.

    .. math:: d = \frac{1}{s} \left( g_0 + \frac{c \|g_0\|}{\|g_w\|}\, g_w \right), \qquad
        w = \arg\min_{w \ge 0,\ \sum_t w_t = 1} g_w^\top g_0 + c\, \|g_0\| \|g_w\|

    with the mean :math:`g_0` of the gradients and :math:`g_w = \sum_t w_t g_t`. The weights are the
    coefficients of ``d``, not ``w``.

    Args:
        losses: How many losses there are, or their unique names.
        c: Radius of the ball around ``g_0``, relative to its norm: 0 is the mean gradient, large
            values approach MGDA's direction. The paper takes it from [0, 1); 0.5 as in LibMTL.
        rescale: ``s`` is 1 for 0 (paper), ``1 + c^2`` for 1 (LibMTL's default), ``1 + c`` for 2.
        reduction: ``"mean"`` as above (paper); ``"sum"`` multiplies by ``T`` (nash-mtl).
        options: See `Aggregation`.

    Raises:
        ValueError: If ``c`` is negative or a choice is unknown.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> CAGrad(["a", "b"], c=0.5).weigh(torch.ones(2), gradients)
        tensor([0.7500, 0.7500])

    References:
        Liu, Liu, Jin, Stone, Liu 2021, arXiv 2110.14048, Algorithm 1.

    Differs from the authors' code in that the inner problem is solved exactly: SLSQP's absolute
    tolerance stops at uniform weights for small gradients. Where ``g_w = 0`` the formula has no
    value, and every update of the ball that opposes no gradient is optimal: it is then the nearest
    one to ``g_0``. The ball is taken as small as the rounding of the Gramian allows.
    """

    def __init__(
        self,
        losses: LossNames,
        *,
        c: float = 0.5,
        rescale: Literal[0, 1, 2] = 0,
        reduction: Reduction = "mean",
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_within(0, math.inf, closed="low", c=c)
        if rescale not in (0, 1, 2):
            raise ValueError(f"`rescale` is {rescale!r}; write 0, 1 (1 + c^2) or 2 (1 + c).")
        self.c = c
        self.rescale = rescale
        check_choice("reduction", reduction, ("sum", "mean"))
        self.reduction = reduction

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        weights = solve_gramian(gradients.gram(), partial(_coefficients, c=self.c))
        scale = len(values) if self.reduction == "sum" else 1
        return weights.to(values.dtype) * (scale / (1, 1 + self.c**2, 1 + self.c)[self.rescale])


def _coefficients(gram: Matrix, c: float, precision: float) -> Matrix:
    """The coefficients of ``g_0 + c ||g_0|| / ||g_w|| g_w``.

    The ball is taken as small, and ``g_w`` as long, as the Gramian's rounding allows.
    """
    mean = np.full(len(gram), 1 / len(gram))
    w = cagrad_weights(gram, c)
    radius = c * norm_bounds(gram, mean, precision)[0]
    shortest, longest = norm_bounds(gram, w, precision)
    combined: Matrix
    if shortest > 0:
        combined = mean + radius / longest * w
        return combined
    step = dual_cone_projection(gram, mean, precision) - mean
    longest = norm_bounds(gram, step, precision)[1]
    combined = mean + min(1.0, radius / longest) * step if longest > 0 else mean
    return combined
