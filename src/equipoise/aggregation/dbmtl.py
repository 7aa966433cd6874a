"""DB-MTL: losses balanced by their logarithm, gradients by their norm (Lin et al. 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_not_negative, check_positive, check_within


class DBMTL(Aggregation):
    r"""Averages the gradients of log losses over time and brings all to the largest norm.

    With ``k`` the number of the step,

    .. math:: h_t = \frac{g_t}{L_t + \epsilon}, \qquad
        \hat g_t \leftarrow h_t + \tfrac{\beta}{k^\sigma} (\hat g_t - h_t), \qquad
        d = \max_s \|\hat g_s\| \sum_t \frac{\hat g_t}{\|\hat g_t\| + \epsilon}

    The result is a combination of averaged gradients, not of those of the step.

    Args:
        losses: How many losses there are, or their unique names; positive ones, since each stands
            under a logarithm.
        beta: :math:`\beta`, how much of the average stays, in [0, 1); LibMTL: 0.9.
        beta_sigma: :math:`\sigma`, how fast that decays; LibMTL: 0.
        eps: :math:`\epsilon`, added to losses and norms before a division; LibMTL (the authors' own
            code): 1e-8.
        options: See `Aggregation`. Priorities, like any scale, do not change the balance.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        >>> DBMTL(["a", "b"], beta=0.0).combine(torch.tensor([1.0, 1.0]), gradients)
        tensor([3., 3.])

    References:
        Lin, Jiang, Ye, Zhang, Chen, Chen, Liu, Tsang, Kwok 2023, arXiv 2308.12029, Algorithm 1.

    Differs from LibMTL in that parameters which one loss has for itself get its plain gradient, not
    that of its logarithm, and in that ``|L_t|`` takes the place of a negative loss. As there, the
    average starts at zero without correction, so that the first steps are small.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    looks_at: LooksAt = "gradients"
    weighting: bool = False

    averaged: Tensor
    steps: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        beta: float = 0.9,
        beta_sigma: float = 0.0,
        eps: float = 1e-8,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_within(0, 1, closed="low", beta=beta)
        check_not_negative(beta_sigma=beta_sigma)
        check_positive(eps=eps)
        self.beta = beta
        self.beta_sigma = beta_sigma
        self.eps = eps
        self.state("averaged", torch.zeros(len(self.names), 0))
        self.state("steps", torch.zeros(len(self.names)))

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        self.steps = self.steps + 1
        divisors = (values.abs() + self.eps)[:, None]
        kept = (self.beta / self.steps**self.beta_sigma)[:, None]
        # Squares of what a loss near zero was divided by may leave the range of float32.
        squares = torch.zeros_like(values, dtype=torch.float64)
        for rows, averaged in gradients.blocks(self._sized("averaged", gradients)):
            logarithmic = rows.to(values.dtype) / divisors
            averaged.copy_(logarithmic + kept * (averaged - logarithmic))
            squares += averaged.double().square().sum(dim=1)
        norms = squares.sqrt()
        shares = (norms.max() / (norms + self.eps)).to(values.dtype)
        combined: Tensor = shares @ self.averaged
        return combined
