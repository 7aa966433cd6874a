"""Trimmed mean: in each coordinate the largest and smallest gradients are left out (Yin 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_not_negative


class TrimmedMean(Aggregation):
    r"""Averages, in each coordinate, what is left without its ``k`` largest and smallest values.

    .. math:: d_p = \frac{1}{T - 2k} \sum_{t=k+1}^{T-k} g_{(t)p}, \qquad
        g_{(1)p} \le \ldots \le g_{(T)p}

    Args:
        losses: How many losses there are, or their unique names.
        trim_number: ``k``, how many values are left out at each end. Where that would leave none,
            of ``T`` losses or of those that are there, it is as many as leave one or two: the
            median.
        options: See `Aggregation`.

    Raises:
        ValueError: If ``trim_number`` is negative.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[0.0, 9.0], [1.0, -9.0], [90.0, 2.0]]))
        >>> TrimmedMean(3).combine(torch.ones(3), gradients)
        tensor([1., 2.])

    References:
        Yin, Chen, Ramchandran, Bartlett 2018, arXiv 1803.01498, Definition 2.

    Differs from the paper in what it is used for: the gradients are those of losses, not of
    workers. The paper's parameter is the fraction :math:`k / T`.
    """

    looks_at: LooksAt = "gradients"
    weighting: bool = False
    shardable: ClassVar[bool | None] = True

    def __init__(
        self,
        losses: LossNames,
        *,
        trim_number: int = 1,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_not_negative(trim_number=trim_number)
        self.trim_number = trim_number

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        return gradients.entrywise(self._trimmed_mean)

    def _trimmed_mean(self, rows: Tensor) -> Tensor:
        kept = list(rows)
        for _ in range(min(self.trim_number, (len(rows) - 1) // 2)):
            kept = _without_extremes(kept)
        return torch.stack(kept).mean(dim=0)


def _without_extremes(rows: Sequence[Tensor]) -> list[Tensor]:
    """Leaves out the largest and the smallest, entry by entry; the others come in any order.

    Far cheaper than to sort a few numbers per column, of which few go.
    """
    kept = list(rows)
    for extreme, inner in ((torch.maximum, torch.minimum), (torch.minimum, torch.maximum)):
        out, *others = kept
        kept = []
        for other in others:
            kept.append(inner(out, other))
            out = extreme(out, other)
    return kept
