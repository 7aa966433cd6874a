"""Equal weights: the plain sum."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.weighting.base import Weighting


class Equal(Weighting):
    """The plain sum of the losses, ``w_i = 1``: the baseline that every method has to beat.

    Args:
        losses: How many losses there are, or their unique names.
        priorities: See `Balancer`.
        every: See `Balancer`.
        nonfinite: See `Balancer`.
        graphless: See `Balancer`.
        scale: See `Balancer`.

    Example:
        >>> Equal(["a", "b"]).weigh(torch.tensor([3.0, 0.5]))
        tensor([1., 1.])
    """

    def _weigh(self, values: Tensor) -> Tensor:
        return torch.ones_like(values)
