"""Self-adaptive weights of points, SA-PINN (McClenny & Braga-Neto 2020)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from equipoise.parts.checks import check_choice
from equipoise.parts.weight_optimizer import Rule, WeightOptimizer, descend_where
from equipoise.pointwise.base import Pointwise


class SelfAdaptive(Pointwise):
    r"""Raises the weights of points by gradient ascent on the loss that the model descends on.

    .. math::

        L = \frac{1}{N} \sum_j m(\lambda_j) \, r_j^2, \qquad
        \lambda \leftarrow \lambda + \rho \, \nabla_\lambda L

    Args:
        points: How many points there are, ``P``.
        lr: :math:`\rho`, the learning rate of the weights; authors' code: 0.005.
        optimizer: ``"adam"`` as in the authors' code, or ``"sgd"`` as the formula is written. Each
            point has its own moments and count of steps, so that it rests while it is not drawn.
        mask: :math:`m`, increasing for weights above 0: ``"square"`` or ``"sigmoid"``.
        initial: :math:`\lambda` before the first step; authors: random in [0, 1], or ones.

    Raises:
        ValueError: If a word is unknown or a number out of range.

    Example:
        >>> adaptive = SelfAdaptive(2, lr=0.5, optimizer="sgd")
        >>> adaptive(torch.tensor([2.0, 0.0]))
        tensor(18.)
        >>> adaptive.weights
        tensor([3., 1.])

    References:
        McClenny, Braga-Neto 2020, arXiv 2009.04544, equations 8 to 14.

    Differs from the authors' code: weights are raised before the loss of the call is taken, so that
    it is that of the new weights; they start at one for all points.
    """

    weights: Tensor

    def __init__(
        self,
        points: int,
        *,
        lr: float = 0.005,
        optimizer: Rule = "adam",
        mask: Literal["square", "sigmoid"] = "square",
        initial: float = 1.0,
    ) -> None:
        super().__init__(points)
        check_choice("mask", mask, ("square", "sigmoid"))
        self.mask = mask
        self.state("weights", torch.full((points,), float(initial)))
        self.optimizer = WeightOptimizer(self, optimizer, lr)

    def _learn(self, residuals: Tensor, places: Tensor) -> None:
        squares = residuals.square().to(self.weights.dtype)
        finite = squares.isfinite()
        slopes = torch.zeros_like(self.weights)
        slopes[places] = torch.where(finite, squares, 0.0) / len(squares)
        moving = torch.zeros_like(self.weights, dtype=torch.bool)
        moving[places] = finite
        ascent = -slopes * self._mask_slope(self.weights)
        moved = descend_where(self.optimizer, self, self.weights, ascent, moving)
        self.weights.copy_(moved)

    def _mask_slope(self, weights: Tensor) -> Tensor:
        if self.mask == "square":
            return 2 * weights
        return weights.sigmoid() * (1 - weights.sigmoid())

    def _loss(self, residuals: Tensor, places: Tensor) -> Tensor:
        weights = self.weights[places]
        masked = weights.square() if self.mask == "square" else weights.sigmoid()
        return (masked * residuals.square()).mean()
