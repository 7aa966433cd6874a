"""SoftAdapt from one step to the next: the form of PhysicsNeMo and of ReLoBRaLo's authors."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice, check_not_negative
from equipoise.weighting.base import Weighting


class StepwiseSoftAdapt(Weighting):
    r"""Weighs losses by a softmax of their change since the last step; the weights sum to ``T``.

    .. math:: w_i = \frac{T\, e^{\beta (c_i - \max_j c_j)}}
                         {\sum_j e^{\beta (c_j - \max_k c_k)} + \epsilon}, \qquad
        c_i = \frac{L_i}{L'_i + \epsilon} \quad\text{or}\quad c_i = L_i - L'_i

    with :math:`L'` the losses of the last step.

    Args:
        losses: How many losses there are, or their unique names.
        change: ``"ratio"`` (PhysicsNeMo) or ``"difference"`` (ReLoBRaLo's authors).
        beta: Inverse temperature of the softmax over rates of change; both codes: 1.
        start: What the losses count as having been before the first step; ReLoBRaLo's authors: 1.
            ``None`` leaves the weight at 1 where there is no last value, as in PhysicsNeMo.
        eps: :math:`\epsilon`, added before a division; PhysicsNeMo: 1e-8, ReLoBRaLo's authors: 0.
        options: See `Balancer`.

    Raises:
        ValueError: If ``change`` is unknown, or ``eps`` negative.

    Example:
        >>> balancer = StepwiseSoftAdapt(["falling", "rising"])
        >>> balancer.weigh(torch.tensor([2.0, 1.0]))
        tensor([1., 1.])
        >>> balancer.weigh(torch.tensor([1.0, 2.0]))
        tensor([0.3649, 1.6351])

    References:
        NVIDIA PhysicsNeMo Sym, ``loss.aggregator.SoftAdapt``; Bischof, Kraus 2021, arXiv
        2110.09813, whose code has it as a baseline; after Heydari, Thompson, Mehmood 2019, arXiv
        1912.12355, which is `SoftAdapt`.

    Differs from PhysicsNeMo after a loss of exactly zero, where its maximum lacks the ``eps`` and
    all weights vanish.
    """

    previous: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        change: Literal["ratio", "difference"] = "ratio",
        beta: float = 1.0,
        start: float | None = None,
        eps: float = 1e-8,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_choice("change", change, ("ratio", "difference"))
        check_not_negative(eps=eps)
        self.change = change
        self.defined_for = "all" if change == "difference" else "nonnegative"
        self.beta = beta
        self.eps = eps
        before = torch.nan if start is None else start
        self.state("previous", torch.full((len(self.names),), before))

    def _weigh(self, values: Tensor) -> Tensor:
        exponents = self.beta * self._changes(values)
        new = self.previous.isnan()
        scores = torch.exp(exponents - torch.where(new, -torch.inf, exponents).max())
        scores = torch.where(new, 0.0, scores)
        known = (~new).sum()
        self.previous = values.clone()
        return torch.where(new, 1.0, known * scores / (scores.sum() + self.eps))

    def _changes(self, values: Tensor) -> Tensor:
        if self.change == "difference":
            return values - self.previous
        return values / (self.previous + self.eps)
