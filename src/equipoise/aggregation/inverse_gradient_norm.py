"""Inverse gradient norms: gradients of equal size for every loss (Wang et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import LooksAt, PerLoss
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_positive, check_within
from equipoise.parts.inverse import inverse_weights


class InverseGradientNorm(Aggregation):
    r"""Weighs losses by their inverse gradient norms, averaged over time.

    With ``n_i`` the norm of the gradient of loss ``i`` and ``G`` the mean of the norms,

    .. math:: w_i \leftarrow \beta w_i + (1 - \beta) \frac{G}{n_i + \epsilon G}

    Args:
        losses: How many losses there are, or their unique names.
        momentum: :math:`\beta`, how much of the last weights stays; authors' code: 0.9, with
            ``every=1000``.
        initial: The weights to begin with, one number or one per loss; authors' code: 1 for the
            residual and often 10 or 100 for the rest.
        eps: :math:`\epsilon`, which bounds the weight of a zero gradient; authors' code: 1e-5.
        options: See `Aggregation`.

    Raises:
        ValueError: If ``momentum`` lies outside [0, 1), ``eps`` is not positive, or ``initial``
            lacks a loss.

    Example:
        >>> from equipoise.gradients.gradients import Gradients
        >>> gradients = Gradients(torch.tensor([[3.0, 4.0], [0.0, 15.0]]))
        >>> balancer = InverseGradientNorm(2, momentum=0.0)
        >>> balancer.weigh(torch.tensor([1.0, 1.0]), gradients)
        tensor([2.0000, 0.6667])

    References:
        Wang, Sankaran, Wang, Perdikaris 2023, arXiv 2308.08468, Algorithm 1; jaxpi, ``grad_norm``.

    Differs from the paper, as its code does, in that norms are brought to their mean, not to their
    sum. Where all gradients are zero the newest weights count as 1.
    """

    looks_at: LooksAt = "norms"

    initial: Tensor
    loss_weights: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        momentum: float = 0.9,
        initial: PerLoss | float = 1.0,
        eps: float = 1e-5,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_within(0, 1, closed="low", momentum=momentum)
        check_positive(eps=eps)
        self.momentum = momentum
        self.eps = eps
        start = per_loss(initial, self.names, "initial")
        self.option("initial", start)
        self.state("resting", start)
        self.state("loss_weights", torch.full((len(self.names),), torch.nan))

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        newest = inverse_weights(gradients.norms().to(values.dtype), self.eps)
        begun = ~self.loss_weights.isnan()
        last = torch.where(begun, self.loss_weights, self.initial.to(values.dtype))
        self.loss_weights = self.momentum * last + (1 - self.momentum) * newest
        return self.loss_weights
