"""CR-MOGM: the weights of another method, smoothed over time (Zhou et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import AggregationOptions
from equipoise.aggregation.mgda import MGDA
from equipoise.balancer import Balancer, PerLoss
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames, loss_names, per_loss
from equipoise.wrappers.base import Reweighting

Inner: TypeAlias = Callable[..., Balancer]
"""Makes the wrapped method for given names: its class, or a `functools.partial` of it."""


class CRMOGM(Reweighting):
    r"""Averages the weights of another method exponentially, so that single batches decide less.

    .. math:: \lambda_k = \alpha \lambda_{k-1} + (1 - \alpha)\, w_k, \qquad d = J^\top \lambda_k

    Args:
        losses: How many losses there are, or their unique names.
        inner: What gives the weights ``w`` that are smoothed: the class of a method that is a
            weighting of the losses, or a `functools.partial` of it for its options; paper: MGDA,
            PCGrad or CAGrad.
        alpha: :math:`\alpha`, how much of the last weights stays, in [0, 1]; TorchJD: 0.9. The
            paper lets it rise to 1 as the learning rate falls: assign ``balancer.alpha`` between
            steps.
        initial: :math:`\lambda_0`, one number or one a loss; ``None`` is the first ``w``.
        options: Those of the wrapped method, which goes backward: see `Aggregation`.

    Raises:
        TypeError: If the wrapped method is no weighting of the losses.
        ValueError: If ``alpha`` is outside [0, 1].

    Example:
        >>> from equipoise import Gradients
        >>> balancer = CRMOGM(["a", "b"], alpha=0.5)
        >>> balancer.weigh(torch.ones(2), Gradients(torch.tensor([[1.0, 0.0], [0.0, 1.0]])))
        tensor([0.5000, 0.5000])
        >>> balancer.weigh(torch.ones(2), Gradients(torch.tensor([[1.0, 0.0], [0.0, 3.0]])))
        tensor([0.7000, 0.3000])

    References:
        Zhou, Zhang, Jiang, Zhong, Gu, Zhu 2022, NeurIPS, "On the convergence of stochastic
        multi-objective gradient manipulation and beyond".

    Differs from the paper in that ``alpha`` has no schedule of its own.
    """

    smoothed: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        inner: Inner = MGDA,
        alpha: float = 0.9,
        initial: PerLoss | float | None = None,
        **options: Unpack[AggregationOptions],
    ) -> None:
        names = loss_names(losses)
        super().__init__(inner(names, **options))
        if not 0 <= alpha <= 1:
            raise ValueError(f"`alpha` is {alpha}; it lies between 0 and 1.")
        self.alpha = alpha
        given = per_loss(0.0 if initial is None else initial, names, "initial")
        self.state("smoothed", torch.full_like(given, torch.nan) if initial is None else given)

    @property
    def inner(self) -> Balancer:
        """The wrapped method."""
        return self.balancer

    def _formula(self, values: Tensor, gradients: Gradients | None) -> Tensor:
        weights = self.balancer.weigh(values, gradients).to(self.smoothed.dtype)
        before = torch.where(self.smoothed.isnan(), weights, self.smoothed)
        self.smoothed = self.alpha * before + (1 - self.alpha) * weights
        return self.smoothed.to(values.dtype)

    def _read_first_format(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Version 0.1 called the balancer below ``inner``."""
        before = f"{prefix}inner."
        for key in [key for key in state_dict if key.startswith(before)]:
            state_dict[f"{prefix}balancer.{key.removeprefix(before)}"] = state_dict.pop(key)
        super()._read_first_format(state_dict, prefix)
