"""FairGrad: alpha-fair shares of the update (Ban & Ji 2024)."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.parts.solve import solve_gramian
from equipoise.solvers import alpha_fairness

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from equipoise.gradients.gradients import Gradients
    from equipoise.losses import LossNames


class FairGrad(Aggregation):
    r"""Weighs so that the decrease of the losses is shared out by alpha-fairness.

    .. math:: G w = w^{-1/\alpha}, \qquad w > 0

    Args:
        losses: How many losses there are, or their unique names.
        alpha: Fairness: towards 0 the sum of the decreases counts, 1 is proportional fairness
            (Nash-MTL's equation), large values are max-min fairness. Authors' code: 1; accurate
            from 0.1 on.
        options: See `Aggregation`.

    Raises:
        ValueError: If ``alpha`` is not positive.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        >>> FairGrad(["a", "b"]).weigh(torch.ones(2), gradients)
        tensor([1.0000, 0.5000])

    References:
        Ban, Ji 2024, arXiv 2402.15638, equation 4, Algorithm 1.

    Differs from the authors' code, which minimises the squared residual (weights up to 23 percent
    off for small gradients) and clips the combined gradient to norm 1: the equation is solved
    exactly, and clipping is left to ``torch.nn.utils.clip_grad_norm_``. A gradient of zero has
    weight 0 instead of an arbitrary large one; gradients that cancel get the weights with which
    they cancel.
    """

    def __init__(
        self, losses: LossNames, *, alpha: float = 1.0, **options: Unpack[AggregationOptions]
    ) -> None:
        super().__init__(losses, **options)
        if not 0 < alpha < math.inf:
            raise ValueError(f"`alpha` is {alpha}; it must be finite and positive.")
        self.alpha = alpha

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        fair = partial(alpha_fairness, alpha=self.alpha)
        weights = solve_gramian(gradients.gram(), fair)
        return weights.to(values.dtype)
