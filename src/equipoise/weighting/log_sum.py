"""The sum of the logarithms of the losses."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.balancer import PerLoss
from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_not_negative
from equipoise.weighting.base import Weighting


class LogSum(Weighting):
    r"""Descends on the sum of the losses' logarithms, which does not know their scales.

    .. math:: L = \sum_i c_i \log(L_i + \delta), \qquad w_i = \frac{c_i}{L_i + \delta}

    Losses must be positive.

    Args:
        losses: How many losses there are, or their unique names.
        factor: ``c_i``, one number or one per loss: with ``offset=0`` priorities, like any scale,
            do not change the balance.
        offset: :math:`\delta`, added to each loss under its logarithm, at least 0. 0 is invariant
            to scale; 1 is Ludwig's ``log1p``, which leaves losses far below 1 as they are; 1e-8 is
            the transform inside DB-MTL.
        options: See `Balancer`.

    Raises:
        ValueError: If ``offset`` is negative.

    Example:
        >>> LogSum(["a", "b"]).weigh(torch.tensor([4.0, 0.5]))
        tensor([0.2500, 2.0000])

    References:
        The baseline "scale-invariant" of Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik,
        Fetaya 2022, Multi-Task Learning as a Bargaining Game, arXiv 2202.01017.

    Differs from the authors' code where that fails: a loss of exactly ``-offset`` has weight 0, one
    below leaves the last weights.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    factor: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        factor: PerLoss | float = 1.0,
        offset: float = 0.0,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_not_negative(offset=offset)
        self.offset = offset
        self.option("factor", per_loss(factor, self.names, "factor"))

    def _weigh(self, values: Tensor) -> Tensor:
        shifted = values + self.offset
        inverse = torch.where(shifted < 0, torch.nan, 1 / shifted)
        return self.factor.to(values.dtype) * torch.where(shifted == 0, 0.0, inverse)
