"""MetaBalance: auxiliary gradients brought to the size of the target's (He et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_within
from equipoise.parts.marking import mark


class MetaBalance(Aggregation):
    r"""Brings each auxiliary gradient near the size of the target's, tensor by tensor.

    For each parameter tensor, with ``0`` the target loss,

    .. math:: g = \sum_i \Big( r \frac{m_0}{m_i} + 1 - r \Big) g_i, \qquad
        m_i \leftarrow \beta m_i + (1 - \beta) \| g_i \|

    Args:
        losses: How many losses there are, or their unique names.
        target: The name of the loss that matters; default the first.
        relax_factor: ``r``, from 0 (plain sum) to 1 (equal sizes); authors' code: 0.7.
        beta: :math:`\beta`, how slowly sizes are forgotten; paper: 0.9.
        options: See `Aggregation`.

    Raises:
        ValueError: If the name is unknown or a number is out of range.

    Example:
        >>> from equipoise.gradients.gradients import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 10.0]]))
        >>> balancer = MetaBalance(["main", "auxiliary"], relax_factor=1.0)
        >>> balancer.combine(torch.tensor([1.0, 1.0]), gradients)
        tensor([1.0000, 1.0000])

    References:
        He, Feng, Cheng, Ji, Guo, Caverlee 2022, arXiv 2203.06801, Algorithm 1.

    Differs from the authors' code in that a tensor that a loss does not reach stops nothing, that a
    gradient that has always been zero divides nothing, and that the averages are saved. Where the
    target is absent the sum is plain. Averages start anew if the watched tensors change in number.
    """

    looks_at: LooksAt = "gradients"
    weighting: bool = False

    is_target: Tensor
    norms: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        target: str | None = None,
        relax_factor: float = 0.7,
        beta: float = 0.9,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_within(0, 1, relax_factor=relax_factor)
        check_within(0, 1, closed="low", beta=beta)
        self.relax_factor = relax_factor
        self.beta = beta
        self.option("is_target", mark(target, self.names, "target"))
        self.state("norms", torch.zeros(len(self.names), 0))

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        parts = gradients.tensors()
        norms = torch.stack([part.norms() for part in parts], dim=1).to(values.dtype)
        known = self.norms if self.norms.shape == norms.shape else torch.zeros_like(norms)
        self.norms = self.beta * known + (1 - self.beta) * norms
        ratios = torch.where(self.norms > 0, (self.is_target @ self.norms) / self.norms, 1.0)
        relaxed = self.relax_factor * self.is_target.sum()
        factors = (relaxed * ratios + 1 - relaxed).unbind(dim=1)
        return torch.cat([part.combine(f) for f, part in zip(factors, parts, strict=True)])
