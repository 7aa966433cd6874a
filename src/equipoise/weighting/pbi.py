"""PBI: penalty-based boundary intersection (Zhang & Li 2007)."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.balancer import PerLoss
from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_positive
from equipoise.weighting.preference import PreferenceWeighting


class PBI(PreferenceWeighting):
    r"""Weighs losses by the gradient of the way along a ray plus the distance from it.

    With the ray from the reference point ``z`` in the direction :math:`u = r / \|r\|`,

    .. math:: w = \frac{\partial}{\partial L} (d_1 + \theta d_2), \qquad
        d_1 = (L - z)^\top u, \qquad
        d_2 = \sqrt{\| L - z - d_1 u \|^2 + \epsilon}

    Weights may be negative: that of a loss that is ahead of the ray.

    Args:
        losses: How many losses there are, or their unique names.
        preference: ``r``, by name or in order; default ``1 / T`` each.
        reference: The ideal point ``z``, by name or in order; default 0.
        theta: Penalty on the distance from the ray; paper: 5.
        eps: :math:`\epsilon` under the root, which makes the gradient exist on the ray; TorchJD:
            1e-12.
        options: See `Balancer`.

    Raises:
        ValueError: If a number is missing or not finite, a preference negative, or ``eps`` not
            positive.

    Example:
        >>> PBI(2, preference=[3.0, 4.0], theta=1.0).weigh(torch.tensor([1.0, 0.0]))
        tensor([1.4000, 0.2000])

    References:
        Zhang, Li 2007, MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition, IEEE
        Transactions on Evolutionary Computation 11(6).

    Differs from the paper, where the algorithm is free of gradients, in the ``eps``.
    """

    reference: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        preference: PerLoss | None = None,
        reference: PerLoss | None = None,
        theta: float = 5.0,
        eps: float = 1e-12,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, preference=preference, **options)
        check_positive(eps=eps)
        self.theta = theta
        self.eps = eps
        ideal = per_loss(0.0 if reference is None else reference, self.names, "reference")
        self.option("reference", ideal)

    def _weigh(self, values: Tensor) -> Tensor:
        preference = self.preference.to(values.dtype)
        ray = preference / preference.norm().clamp(min=self.eps)
        gaps = values - self.reference.to(values.dtype)
        aside = gaps - (gaps @ ray) * ray
        distance = torch.sqrt(aside.square().sum() + self.eps)
        weights: Tensor = ray + self.theta * aside / distance
        return weights
