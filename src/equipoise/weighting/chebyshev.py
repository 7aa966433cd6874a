"""Chebyshev scalarisation: the worst weighted loss (Bowman 1976)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import one_hot
from typing_extensions import Unpack

from equipoise.balancer import PerLoss
from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_within
from equipoise.weighting.preference import PreferenceWeighting


class Chebyshev(PreferenceWeighting):
    r"""Descends on the loss that is farthest from its ideal value, and on no other.

    .. math:: w = \frac{\partial}{\partial L} \Big( c \max_i \lambda_i (L_i - z_i)
        + (1 - c) \sum_i \lambda_i L_i \Big)

    Args:
        losses: How many losses there are, or their unique names.
        preference: The paper's :math:`\lambda`, by name or in order; default ``1 / T`` each.
        reference: The ideal point ``z``, by name or in order; default 0.
        tchebycheff_weight: ``c``, how much the maximum counts beside the weighted sum: 1 is the
            maximum alone, less mixes in the weighted sum (the augmented form); Ludwig mixes in
            half.
        options: See `Balancer`.

    Raises:
        ValueError: If a number is missing or not finite, a preference negative, or
            ``tchebycheff_weight`` outside [0, 1].

    Example:
        >>> import torch
        >>> Chebyshev(["a", "b"], preference=[0.75, 0.25]).weigh(torch.tensor([1.0, 2.0]))
        tensor([0.7500, 0.0000])

    References:
        Bowman 1976, On the relationship of the Tchebycheff norm and the efficient frontier of
        multiple-criteria objectives; as in Lin et al. 2024, arXiv 2402.19078.

    Where losses tie for the maximum the first one leads, as in the code of Lin et al. Ludwig offers
    the same under the name of Pareto MTL, which it is not.
    """

    reference: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        preference: PerLoss | None = None,
        reference: PerLoss | None = None,
        tchebycheff_weight: float = 1.0,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, preference=preference, **options)
        check_within(0, 1, tchebycheff_weight=tchebycheff_weight)
        self.tchebycheff_weight = tchebycheff_weight
        ideal = per_loss(0.0 if reference is None else reference, self.names, "reference")
        self.option("reference", ideal)

    def _weigh(self, values: Tensor) -> Tensor:
        preference = self.preference.to(values.dtype)
        worst = (preference * (values - self.reference.to(values.dtype))).argmax()
        leads = one_hot(worst, len(values)).to(values.dtype)
        share = self.tchebycheff_weight
        return preference * (share * leads + (1 - share))
