"""Trimmed mean: in each coordinate the largest and smallest gradients are left out (Yin 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from equipoise.aggregation.base import Aggregation, AggregationOptions

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from equipoise.balancer import LooksAt
    from equipoise.gradients import Gradients
    from equipoise.losses import LossNames


class TrimmedMean(Aggregation):
    r"""Averages, in each coordinate, what is left without its ``k`` largest and smallest values.

    .. math:: d_p = \frac{1}{T - 2k} \sum_{t=k+1}^{T-k} g_{(t)p}, \qquad
        g_{(1)p} \le \ldots \le g_{(T)p}

    Args:
        losses: How many losses there are, or their unique names.
        trim_number: ``k``. Where that would leave none, of ``T`` losses or of those that are there,
            it is as many as leave one or two: the median.
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

    looks_at: ClassVar[LooksAt] = "gradients"
    weighting: ClassVar[bool] = False
    shardable: ClassVar[bool | None] = True

    def __init__(
        self,
        losses: LossNames,
        *,
        trim_number: int = 1,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        if trim_number < 0:
            raise ValueError(f"`trim_number` is {trim_number}; write 0 or more.")
        self.trim_number = trim_number

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        ordered = gradients.columns().sort(dim=0).values
        trimmed = min(self.trim_number, (len(ordered) - 1) // 2)
        return ordered[trimmed : len(ordered) - trimmed].mean(dim=0)
