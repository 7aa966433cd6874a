"""Geometric loss strategy (Chennupati et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from equipoise.weighting.base import Weighting

if TYPE_CHECKING:
    from torch import Tensor


class GeometricMean(Weighting):
    r"""Descends on the geometric mean of the losses: a loss counts by its relative change.

    .. math:: L = \Big(\prod_i L_i\Big)^{1/T}, \qquad
        w_i = \frac{\partial L}{\partial L_i} = \frac{L}{T\, L_i}

    Scaling one loss scales the whole gradient and leaves its direction. Losses must be positive.

    Args:
        losses: How many losses there are, or their unique names.
        priorities: See `Balancer`; like any scale, they do not change the balance.
        every: See `Balancer`.
        nonfinite: See `Balancer`.
        graphless: See `Balancer`.
        scale: See `Balancer`.

    Example:
        >>> GeometricMean(["a", "b"]).weigh(torch.tensor([4.0, 1.0]))
        tensor([0.2500, 1.0000])

    References:
        Chennupati, Sistu, Yogamani, Rawashdeh 2019, MultiNet++: Multi-Stream Feature Aggregation
        and Geometric Loss Strategy for Multi-Task Learning, arXiv 1904.08492.

    Differs from LibMTL's code in that the product cannot overflow. Where that gives NaN, a loss of
    exactly zero has weight 0 and counts as the smallest normal number in the mean; a negative loss,
    which has no geometric mean with others, leaves the last weights.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    @property
    def halted_by(self) -> tuple[str, ...]:
        """Any loss: one factor of zero makes the mean zero."""
        return self.names

    def _weigh(self, values: Tensor) -> Tensor:
        smallest = torch.finfo(values.dtype).tiny
        logs = torch.where(values == 0, smallest, values).log()
        weights = torch.exp(logs.mean() - logs) / len(values)
        return torch.where(values == 0, 0.0, weights)
