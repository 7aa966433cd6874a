"""Uncertainty weighting (Kendall, Gal & Cipolla 2018)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.balancer import PerLoss
from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames, per_loss
from equipoise.parts.weight_optimizer import Rule, WeightOptimizer, descend_where
from equipoise.weighting.base import Weighting


class Uncertainty(Weighting):
    r"""Learns one log variance per loss, ``s_i = log sigma_i^2``, and weighs by its inverse.

    Descends on

    .. math:: \sum_i c_i e^{-s_i} L_i + \rho\, s_i, \qquad w_i = c_i e^{-s_i}

    with :math:`c_i = \rho = 1/2`, the likelihood of regression: the optimum is ``s_i = log L_i``.

    Args:
        losses: How many losses there are, or their unique names.
        factor: ``c_i``, one number or one per loss: paper 1/2 for regression, 1 for classification.
        regulariser: ``rho``, the factor of the term that keeps weights from falling to zero; paper
            1/2. With ``factor=1, regulariser=1`` it is the form of Gal's notebook, and its half is
            that of LibMTL, TorchJD and PhysicsNeMo.
        initial: ``s_i`` before the first step, one number or one per loss; LibMTL uses -0.5.
        limit: ``s_i`` beyond it counts as it and rests; Ludwig uses 20. Default: none.
        lr: Learning rate of ``s``.
        optimizer: What descends on ``s``: ``"adam"`` or ``"sgd"``.
        options: See `Balancer`.

    Raises:
        ValueError: If ``lr`` is not positive or ``optimizer`` is unknown.

    Example:
        >>> balancer = Uncertainty(2, optimizer="sgd", lr=0.5)
        >>> balancer.weigh(torch.tensor([3.0, 1.0]))
        tensor([0.5000, 0.5000])
        >>> balancer.log_variances
        tensor([0.5000, 0.0000])

    References:
        Kendall, Gal, Cipolla 2018, arXiv 1705.07115, equation 7.

    Differs from the paper in who trains ``s``: there the model's optimizer does, here the balancer
    itself, so that no parameter has to be registered and the state is the balancer's (leave it out
    of the optimizer: its ``parameters()`` are none, and state that requires grad is refused); and
    in that ``s`` of a negative loss, which would fall for ever, rests.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    log_variances: Tensor
    factor: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        factor: PerLoss | float = 0.5,
        regulariser: float = 0.5,
        initial: PerLoss | float = 0.0,
        limit: float = float("inf"),
        lr: float = 0.025,
        optimizer: Rule = "adam",
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        self.regulariser = regulariser
        self.limit = limit
        self.optimizer = WeightOptimizer(self, optimizer, lr)
        self.option("factor", per_loss(factor, self.names, "factor"))
        self.state("log_variances", per_loss(initial, self.names, "initial"))
        self.state("resting", self.factor * torch.exp(-self.log_variances))

    def _weigh(self, values: Tensor) -> Tensor:
        weights = self.factor * torch.exp(-self.log_variances.clamp(-self.limit, self.limit))
        inside = self.log_variances.abs() <= self.limit
        gradient = inside * (self.regulariser - weights * values)
        # A negative loss has no optimal variance: its own rests, or it would run away.
        self.log_variances = descend_where(
            self.optimizer, self, self.log_variances, gradient, values >= 0
        )
        return weights
