"""MoDo: one unbiased descent step on the weights of MGDA (Chen et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import AggregationOptions
from equipoise.aggregation.observing import ObservingAggregation
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_not_negative, check_positive
from equipoise.parts.solve import solve
from equipoise.solvers.simplex import simplex_projection


class MoDo(ObservingAggregation):
    r"""Descends on the weights of MGDA with gradients of two independent mini-batches.

    .. math:: \lambda \leftarrow \Pi_\Delta\big( \lambda
        - \gamma\, (J_1 J_2^\top \lambda + \rho \lambda) \big), \qquad d = J_3^\top \lambda

    ``J_1`` and ``J_2`` are of the two batches shown to `observe`, ``J_3`` is of the losses that
    ``backward`` is called with: a third batch, or the mean of the losses of the other two. Shown
    one batch only, the step's own is the second; shown none, it is both, and the estimate is
    biased. The weights sum to 1.

    Args:
        losses: How many losses there are, or their unique names.
        gamma: Step size of the weights; authors' code: 0.1. LibMTL: 0.001.
        rho: Weight of the l2 penalty on the weights; authors' code: 0.1.
        options: See `Aggregation`. Here ``heads`` is ``"plain"`` unless given, as in LibMTL: the
            own parameters of a loss of weight zero would stand still.

    Raises:
        ValueError: If ``gamma`` is not positive or ``rho`` negative.

    Example:
        >>> from equipoise import Gradients
        >>> balancer = MoDo(["a", "b"])
        >>> balancer.observe(Gradients(torch.tensor([[2.0, 0.0], [0.0, 1.0]])))
        >>> balancer.observe(Gradients(torch.tensor([[1.0, 0.0], [0.0, 1.0]])))
        >>> third = Gradients(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
        >>> balancer.weigh(torch.ones(2), third)
        tensor([0.4750, 0.5250])

    References:
        Chen, Fernando, Ying, Chen 2023, arXiv 2305.20057, the MoDo algorithm.

    Differs from the authors' code in that they descend on the sum of two batches' losses.
    """

    loss_weights: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        gamma: float = 0.1,
        rho: float = 0.1,
        **options: Unpack[AggregationOptions],
    ) -> None:
        options.setdefault("heads", "plain")
        super().__init__(losses, **options)
        check_positive(gamma=gamma)
        check_not_negative(rho=rho)
        self.gamma = gamma
        self.rho = rho
        count = len(self.names)
        self.state("loss_weights", torch.full((count,), 1 / count, dtype=torch.float64))

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        products, weights = self._products(gradients), self.loss_weights
        slope = products.to(weights.dtype) @ weights + self.rho * weights
        self.loss_weights = solve(weights - self.gamma * slope, simplex_projection)
        return self.loss_weights.to(values.dtype)
