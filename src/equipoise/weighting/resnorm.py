"""ResNorm: GradNorm with loss values in place of gradient norms (NVIDIA PhysicsNeMo)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames
from equipoise.parts.rates import training_rates
from equipoise.parts.weight_optimizer import Rule, WeightOptimizer
from equipoise.weighting.base import Weighting


class ResNorm(Weighting):
    r"""Learns weights that bring weighted losses to a common scale, larger for slower losses.

    With :math:`w_i = e^{\lambda_i}`, one descent step on

    .. math:: \sum_i \Big| w_i L_i - \mathrm{mean}_j(L_j)\, r_i^\alpha \Big|, \qquad
        r_i = \frac{L_i / L_i(0)}{\mathrm{mean}_j\, L_j / L_j(0)}

    with respect to :math:`\lambda`, losses and targets held constant; then :math:`\lambda` is
    shifted so that the weights sum to ``T``.

    Args:
        losses: How many losses there are, or their unique names.
        alpha: Strength of the pull towards a common training rate; PhysicsNeMo: 1.
        lr: Learning rate of :math:`\lambda`; in PhysicsNeMo it is that of the model, here that of
            `GradNorm`.
        optimizer: What descends on :math:`\lambda`: ``"adam"`` or ``"sgd"``.
        options: See `Balancer`.

    Raises:
        ValueError: If ``lr`` is not positive or ``optimizer`` is unknown.

    Example:
        >>> balancer = ResNorm(["large", "small"], lr=0.1)
        >>> balancer.weigh(torch.tensor([9.0, 1.0]))
        tensor([0.9003, 1.0997])

    References:
        NVIDIA PhysicsNeMo Sym, ``loss.aggregator.ResNorm``; the objective is that of Chen et al.
        2018, arXiv 1711.02257, equation 2. There is no paper.

    Differs from that code in that a step applies the weights that it has just learned, that the
    objective is not added to the training loss, and in that a loss that starts at exactly zero has
    ratio 1 instead of NaN.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    initial: Tensor
    loss_weights: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        alpha: float = 1.0,
        lr: float = 0.025,
        optimizer: Rule = "adam",
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        self.alpha = alpha
        self.optimizer = WeightOptimizer(self, optimizer, lr)
        self.state("initial", torch.full((len(self.names),), torch.nan))
        self.state("loss_weights", torch.ones(len(self.names)))

    def _weigh(self, values: Tensor) -> Tensor:
        self.initial = torch.where(self.initial.isnan(), values, self.initial)
        weighted = self.loss_weights * values
        target = values.mean() * training_rates(values, self.initial) ** self.alpha
        gradient = torch.sign(weighted - target) * weighted
        smallest = torch.finfo(values.dtype).tiny  # a weight that underflowed has no logarithm
        logarithms = self.loss_weights.clamp(min=smallest).log()
        descended = self.optimizer.descend(self, logarithms, gradient)
        self.loss_weights = self.loss_weights.sum() * descended.softmax(dim=0)
        return self.loss_weights
