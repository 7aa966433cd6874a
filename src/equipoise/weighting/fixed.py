"""Fixed weights: those that somebody found."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Self, Unpack

from equipoise.balancer import Balancer, PerLoss
from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames, per_loss
from equipoise.weighting.base import Weighting


class Fixed(Weighting):
    """Weights that stay as they are given.

    Args:
        losses: How many losses there are, or their unique names.
        weights: One number per loss, by name or in order.
        options: See `Balancer`.

    Raises:
        ValueError: If a loss has no weight, or a weight is not finite.

    Example:
        >>> import torch
        >>> Fixed(["a", "b"], {"b": 0.1, "a": 2.0}).weigh(torch.tensor([3.0, 0.5]))
        tensor([2.0000, 0.1000])
    """

    fixed: Tensor

    def __init__(
        self, losses: LossNames, weights: PerLoss, **options: Unpack[BalancerOptions]
    ) -> None:
        super().__init__(losses, **options)
        found = per_loss(weights, self.names, "weights")
        self.option("fixed", found)
        self.state("resting", found)

    @classmethod
    def from_balancer(cls, balancer: Balancer, *, last: float = 1.0) -> Self:
        """Weights that another balancer had on average, for retraining from scratch with them.

        So do the authors of GradNorm (Chen et al. 2018, arXiv 1711.02257, Section 5.4).

        Args:
            balancer: A balancer that has been trained with.
            last: Over which last part of its training. ``last=0.25`` leaves out three quarters, in
                which weights may have been on their way from where they started.

        Raises:
            ValueError: If ``last`` is not above 0 and at most 1.
        """
        return cls(balancer.names, balancer.mean_weights_over(last))

    def _weigh(self, values: Tensor) -> Tensor:
        return self.fixed.clone()
