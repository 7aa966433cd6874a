"""GradNorm: gradient normalisation for adaptive loss balancing (Chen et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.descending import Rule, WeightOptimizer

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from equipoise.balancer import LooksAt
    from equipoise.gradients import Gradients
    from equipoise.losses import LossNames


class GradNorm(Aggregation):
    r"""Learns weights that bring gradient norms to a common scale, larger for slower losses.

    With ``n_i`` the norm of the gradient of loss ``i`` at the last shared layer and
    ``G_i = w_i n_i``, one descent step on

    .. math:: L_{grad}(w) = \sum_i | G_i - \bar G\, r_i^\alpha |, \qquad
        r_i = \frac{L_i / L_i(0)}{\mathrm{mean}_j\, L_j / L_j(0)}

    with the target :math:`\bar G r_i^\alpha` held constant; then the weights are renormalised to
    their sum, ``T``. The derivative with respect to ``w_i`` is ``sign(G_i - target_i) n_i``, so no
    second derivative is needed.

    Args:
        losses: How many losses there are, or their unique names.
        alpha: Strength of the pull towards a common training rate; paper: 1.5 on NYUv2, 0.12 in the
            toy problem.
        lr: Learning rate of the weights; paper: 0.025.
        optimizer: What descends on the weights: ``"adam"``, or ``"sgd"`` for the plain update.
        options: See `Aggregation`.

    Raises:
        ValueError: If ``lr`` is not positive or ``optimizer`` is unknown.

    Example:
        >>> trunk, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
        >>> near, far = head(trunk(torch.ones(1, 3)).relu()).unbind(1)
        >>> balancer = GradNorm(["near", "far"])
        >>> record = balancer.backward({"near": near.square().mean(), "far": far.abs().mean()})
        >>> round(sum(balancer.weights.values()), 5)
        2.0

    References:
        Chen, Badrinarayanan, Lee, Rabinovich 2018, arXiv 1711.02257, equation 2, Algorithm 1.

    Differs from the paper in that a step applies the weights that it has just learned: they are
    known before its one backward pass of the model. Weights are not clamped, as in Algorithm 1. A
    loss that starts at exactly zero has ratio 1. The widely used ``gradnorm-pytorch`` has the sign
    of the rate's exponent reversed.
    """

    looks_at: ClassVar[LooksAt] = "norms"
    default_wrt: ClassVar[Literal["shared", "last_shared", "representation"]] = "last_shared"

    initial: Tensor
    loss_weights: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        alpha: float = 1.5,
        lr: float = 0.025,
        optimizer: Rule = "adam",
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        self.alpha = alpha
        self.optimizer = WeightOptimizer(self, optimizer, lr)
        self.state("initial", torch.full((len(self.names),), torch.nan))
        self.state("loss_weights", torch.ones(len(self.names)))

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        self.initial = torch.where(self.initial.isnan(), values, self.initial)
        ratios = torch.where(self.initial != 0, values / self.initial, 1.0)
        rates = ratios / ratios.mean()
        norms = gradients.norms().to(values.dtype)
        weighted = self.loss_weights * norms
        target = weighted.mean() * rates**self.alpha
        descended = self.optimizer.descend(
            self, self.loss_weights, torch.sign(weighted - target) * norms
        )
        self.loss_weights = descended * (self.loss_weights.sum() / descended.sum())
        return self.loss_weights
