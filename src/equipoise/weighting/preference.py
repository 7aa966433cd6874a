"""`PreferenceWeighting`: what scalarisations that follow a preference vector have in common."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from equipoise.balancer import PerLoss
from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_shares
from equipoise.weighting.base import Weighting


class PreferenceWeighting(Weighting):
    """A weighting by the gradient of a scalarisation along a preference vector.

    The preference is kept in float64, as it was given; a formula takes it in the values' dtype.

    Args:
        losses: How many losses there are, or their unique names.
        preference: How much each loss matters, by name or in order; default ``1 / T`` each.
        options: See `Balancer`.

    Raises:
        ValueError: If a preference is negative, missing or not finite, or all are zero.
    """

    preference: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        preference: PerLoss | None = None,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        given = 1 / len(self.names) if preference is None else preference
        self.option("preference", self._checked(given))

    def prefer(self, preference: PerLoss) -> None:
        """Takes another preference from the next step on, for networks that are told theirs.

        Args:
            preference: By name or in order, as at construction.

        Raises:
            ValueError: If a preference is negative, missing or not finite, or all are zero.
        """
        self.set_option("preference", self._checked(preference))

    def _checked(self, preference: PerLoss | float) -> Tensor:
        numbers = per_loss(preference, self.names, "preference")
        check_shares("preference", numbers)
        return numbers
