"""IMTL-G: equal projections onto every gradient (Liu et al. 2021)."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice
from equipoise.parts.solve import solve_gramian
from equipoise.solvers import equal_projection


class IMTLG(Aggregation):
    r"""Weighs so that the combined gradient has the same projection onto every gradient.

    .. math:: d = \sum_t w_t g_t, \qquad d \cdot \frac{g_t}{\|g_t\|} = \text{const}, \qquad
        \sum_t w_t = 1, \qquad\text{hence}\quad w \propto G^{-1} n,\quad n_t = \|g_t\|

    Weights may be negative. Where :math:`\sum_t (G^{-1} n)_t` is, the common projection is, too,
    and the update raises *all* losses: in up to 14 percent of random steps with three losses and
    gradients in four dimensions, hardly ever where parameters are many more than losses.

    Args:
        losses: How many losses there are, or their unique names.
        zero_gradients: Whether gradients of zero are left out (``"drop"``, as in TorchJD), or their
            projection, zero, is the common one (``"stop"``, as in conflictfree, and the limit of
            the formula as a gradient vanishes): then the update is zero.
        sign: Whether weights sum to 1 whatever that does to the losses (``"paper"``), or have the
            sign with which the common projection is positive, so that none is raised
            (``"descent"``): they then may sum to -1.
        options: See `Aggregation`. Priorities, like any scale, do not change the balance of the
            gradients. Here ``heads`` is ``"plain"`` unless given, as in the paper: a
            negative weight would make a loss's own parameters raise it. ``balancer(losses)`` has
            no such exception; use ``backward`` where a loss has parameters of its own.

    Raises:
        ValueError: If ``zero_gradients`` or ``sign`` is unknown.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
        >>> IMTLG(["a", "b"]).weigh(torch.ones(2), gradients)
        tensor([0.7500, 0.2500])

    References:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang 2021, "Towards Impartial Multi-task Learning",
        ICLR, equation 6.

    Differs from the paper where its formula has no value: with gradients of zero, see above; with
    dependent gradients it is the shortest solution; and where no solution can have sum 1 all
    weights are ``1 / T``.
    """

    default_wrt: ClassVar[Literal["shared", "last_shared", "representation"]] = "representation"

    def __init__(
        self,
        losses: LossNames,
        *,
        zero_gradients: Literal["drop", "stop"] = "drop",
        sign: Literal["paper", "descent"] = "paper",
        **options: Unpack[AggregationOptions],
    ) -> None:
        options.setdefault("heads", "plain")
        super().__init__(losses, **options)
        check_choice("zero_gradients", zero_gradients, ("drop", "stop"))
        check_choice("sign", sign, ("paper", "descent"))
        self.zero_gradients = zero_gradients
        self.sign = sign

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        solver = partial(equal_projection, descending=self.sign == "descent")
        weights = solve_gramian(gradients.gram(), solver).to(values.dtype)
        if self.zero_gradients == "drop":
            return weights
        zero = (gradients.norms() == 0).to(values.dtype)
        return torch.where(zero.any(), zero / zero.sum(), weights)
