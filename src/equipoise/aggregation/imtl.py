"""IMTL: learned scales of the losses and equal projections of their gradients (Liu et al. 2021)."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import PerLoss
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames, per_loss
from equipoise.parts.solve import solve_gramian
from equipoise.parts.weight_optimizer import Rule, WeightOptimizer, descend_where
from equipoise.solvers import equal_projection


class IMTL(Aggregation):
    r"""Brings the losses to one scale (IMTL-L), then balances their gradients (IMTL-G).

    Descends on ``s`` in :math:`\sum_t e^{s_t} L_t - s_t`, whose optimum is
    :math:`e^{s_t} = 1 / L_t`, and weighs the gradients of the scaled losses,

    .. math:: w_t = \alpha_t e^{s_t}, \qquad
        \sum_j \alpha_j\, e^{s_j} g_j \cdot \frac{g_t}{\|g_t\|} = \text{const}, \qquad
        \sum_t \alpha_t = 1

    Weights may be negative, and then, seldom, raise all losses: see `IMTLG`.

    Args:
        losses: How many losses there are, or their unique names.
        initial: ``s`` before the first step, one number or one per loss; paper: 0.
        lr: Learning rate of ``s``.
        optimizer: What descends on ``s``: ``"adam"`` or ``"sgd"``.
        options: See `Aggregation`. Priorities, like any scale, do not change the balance of the
            gradients. Here ``heads`` is ``"plain"`` unless given: a negative weight
            would make a loss's own parameters raise it. ``balancer(losses)`` has no such exception;
            use ``backward`` where a loss has parameters of its own.

    Raises:
        ValueError: If ``lr`` is not positive or ``optimizer`` is unknown.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
        >>> balancer = IMTL(["a", "b"], optimizer="sgd", lr=0.1)
        >>> balancer.weigh(torch.tensor([2.0, 0.5]), gradients)
        tensor([0.7500, 0.2500])
        >>> balancer.log_scales
        tensor([-0.1000,  0.0500])

    References:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang 2021, "Towards Impartial Multi-task Learning",
        ICLR, equations 6 and 8, Algorithm 1.

    Differs from the paper in who trains ``s``: there the model's optimizer does, here the balancer
    itself; and in what the parameters that one loss has for itself receive: there the gradient of
    the scaled loss, here that of the loss as it is. Degenerate gradients are as in `IMTLG`.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    default_wrt: ClassVar[Literal["shared", "last_shared", "representation"]] = "representation"

    log_scales: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        initial: PerLoss | float = 0.0,
        lr: float = 0.025,
        optimizer: Rule = "adam",
        **options: Unpack[AggregationOptions],
    ) -> None:
        options.setdefault("heads", "plain")
        super().__init__(losses, **options)
        self.optimizer = WeightOptimizer(self, optimizer, lr)
        scales = per_loss(initial, self.names, "initial")
        self.state("log_scales", scales)

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        scales = self.log_scales.exp()
        gram = gradients.scaled(scales).gram()
        alpha = solve_gramian(gram, equal_projection).to(values.dtype)
        # A negative loss has no optimal scale: its own rests, or it would run away.
        self.log_scales = descend_where(
            self.optimizer, self, self.log_scales, scales * values - 1, values >= 0
        )
        return alpha * scales
