"""FairGrad: alpha-fair shares of the update (Ban & Ji 2024)."""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_within
from equipoise.parts.solve import solve_gramian
from equipoise.solvers import alpha_fairness


class FairGrad(Aggregation):
    r"""Weighs so that the decrease of the losses is shared out by alpha-fairness.

    .. math:: G w = w^{-1/\alpha}, \qquad w > 0

    Args:
        losses: How many losses there are, or their unique names.
        alpha: How fair the decreases of the losses are to be: towards 0 the sum of the decreases
            counts, 1 is proportional fairness (Nash-MTL's equation), large values are max-min
            fairness. Authors' code: 1; accurate from 0.1 on.
        options: See `Aggregation`. With ``alpha=1`` priorities, like any scale, do not change the
            balance.

    Raises:
        ValueError: If ``alpha`` is not positive.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        >>> FairGrad(["a", "b"]).weigh(torch.ones(2), gradients)
        tensor([1.0000, 0.5000])

    PIVRG, which lets tasks that do badly lead, solves :math:`(G x)_i = \sqrt{v_i / x_i}` for what
    multiplies the losses, and needs no method of its own: it is ``alpha=2.0`` with priorities
    :math:`1 / v_i`. Its :math:`v = T\,\mathrm{softmax}(s / \tau)` come from how far tasks fall
    short, :math:`s` in percent, with :math:`\tau = \max((\max s - \min s) / \log 2, 10)`, so that
    no task counts more than twice another. Such numbers are those of `DynamicTaskPrioritization`,
    :math:`s = 100 (1 - \kappa)`; where they change with each validation, priorities are schedules
    that look them up:

        >>> v = {"a": 1.0, "b": 1.0}
        >>> balancer = FairGrad(
        ...     v, alpha=2.0, priorities={name: lambda _, name=name: 1 / v[name] for name in v}
        ... )
        >>> def validated(kpis):
        ...     s = 100 * (1 - torch.tensor(list(kpis.values())))
        ...     tau = max((s.max() - s.min()).item() / 0.6931, 10.0)
        ...     v.update(zip(kpis, (len(s) * torch.softmax(s / tau, 0)).tolist()))
        >>> validated({"a": 0.9, "b": 0.6})
        >>> {name: round(number, 3) for name, number in v.items()}
        {'a': 0.667, 'b': 1.333}

    References:
        Ban, Ji 2024, arXiv 2402.15638, equation 4, Algorithm 1. PIVRG (CVPR 2025): its authors'
        code, MTLlib.

    Differs from the authors' code, which minimises the squared residual (weights up to 23 percent
    off for small gradients) and clips the combined gradient to norm 1: the equation is solved
    exactly, and clipping is left to ``torch.nn.utils.clip_grad_norm_``. A gradient of zero has
    weight 0 instead of an arbitrary large one; gradients that cancel, up to
    ``8 T`` units of the last digit, get the weights with which they cancel, and what rounding may
    have taken from the Gramian in float32, ``4 T`` such units, is added to its diagonal. PIVRG's
    code multiplies the result by ``T`` besides, and gives heads the plain sum; here a priority
    multiplies the gradient of a head, too.
    """

    def __init__(
        self, losses: LossNames, *, alpha: float = 1.0, **options: Unpack[AggregationOptions]
    ) -> None:
        super().__init__(losses, **options)
        check_within(0, math.inf, closed="neither", alpha=alpha)
        self.alpha = alpha

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        fair = partial(alpha_fairness, alpha=self.alpha)
        weights = solve_gramian(gradients.gram(), fair)
        return weights.to(values.dtype)
