"""What the methods of Jacobian descent share: a preference and a regularised Gramian."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import PerLoss
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_not_negative, check_shares
from equipoise.parts.solve import Matrix, solve_gramian


class DualCone(Aggregation):
    """Weights from projections onto the cone of the directions that no gradient opposes.

    Args:
        losses: How many losses there are, or their unique names.
        preference: ``p``, one number or one per loss, not negative; ``None`` is one over the number
            of losses that are there.
        norm_eps: Below this trace the Gramian counts as zero.
        reg_eps: Added to the diagonal of the Gramian of trace 1.
        options: See `Aggregation`.

    Raises:
        ValueError: If a number is negative.
    """

    preference: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        preference: PerLoss | float | None = None,
        norm_eps: float = 1e-4,
        reg_eps: float = 1e-4,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_not_negative(norm_eps=norm_eps, reg_eps=reg_eps)
        given = per_loss(1.0 if preference is None else preference, self.names, "preference")
        check_shares("preference", given, all_zero=True)
        self.averages = preference is None
        self.norm_eps = norm_eps
        self.reg_eps = reg_eps
        self.option("preference", given)

    @abstractmethod
    def _project(self, gram: Matrix, preference: Matrix, precision: float) -> Matrix:
        """The formula: ``[T]`` weights."""

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        preference = self.preference / len(values) if self.averages else self.preference
        weights = solve_gramian(gradients.gram(), self._projected, preference)
        return weights.to(values.dtype)

    def _projected(self, gram: Matrix, preference: Matrix, precision: float) -> Matrix:
        return self._project(self._regularised(gram), preference, precision)

    def _regularised(self, gram: Matrix) -> Matrix:
        trace = float(gram.trace())
        unit = np.zeros_like(gram) if trace < self.norm_eps or trace == 0 else gram / trace
        regularised: Matrix = unit + self.reg_eps * np.eye(len(gram))
        return regularised
