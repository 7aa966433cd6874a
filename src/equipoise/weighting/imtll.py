"""IMTL-L: the loss half of impartial multi-task learning (Liu et al. 2021)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from typing_extensions import Unpack

from equipoise.balancer import PerLoss
from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames, per_loss
from equipoise.parts.weight_optimizer import Rule, WeightOptimizer, descend_where
from equipoise.weighting.base import Weighting


class IMTLL(Weighting):
    r"""Learns one scale per loss, so that all scaled losses come to 1.

    Descends on

    .. math:: \sum_i e^{s_i} L_i - s_i, \qquad w_i = e^{s_i}

    The optimum is :math:`e^{s_i} = 1 / L_i`. It is uncertainty weighting with ``s`` negated and
    both halves doubled.

    Args:
        losses: How many losses there are, or their unique names.
        initial: ``s_i`` before the first step, one number or one per loss; authors: 0.
        lr: Learning rate of ``s``.
        optimizer: What descends on ``s``: ``"adam"`` or ``"sgd"``.
        options: See `Balancer`.

    Raises:
        ValueError: If ``lr`` is not positive or ``optimizer`` is unknown.

    Example:
        >>> import torch
        >>> balancer = IMTLL(2, optimizer="sgd", lr=0.5)
        >>> balancer.weigh(torch.tensor([3.0, 1.0]))
        tensor([1., 1.])
        >>> balancer.log_weights
        tensor([-1.,  0.])

    References:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang 2021, Towards Impartial Multi-task Learning,
        ICLR: its half for losses, with base e.

    Differs from the paper in who trains ``s``: there the model's optimizer does, here the balancer
    itself, so that no parameter has to be registered and the state is the balancer's; and in that
    ``s`` of a negative loss, which would grow for ever, rests.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    log_weights: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        initial: PerLoss | float = 0.0,
        lr: float = 0.025,
        optimizer: Rule = "adam",
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        self.optimizer = WeightOptimizer(self, optimizer, lr)
        start = per_loss(initial, self.names, "initial")
        self.state("log_weights", start)
        self.state("resting", start.exp())

    def _weigh(self, values: Tensor) -> Tensor:
        weights = self.log_weights.exp()
        gradient = weights * values - 1
        # A negative loss has no optimal scale: its own rests, or it would run away.
        self.log_weights = descend_where(
            self.optimizer, self, self.log_weights, gradient, values >= 0
        )
        return weights
