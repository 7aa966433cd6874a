"""Gradient shares: EnCodec's balancer (Défossez et al. 2022)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import LooksAt, PerLoss
from equipoise.gradients.gradients import Gradients, Row
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_positive, check_shares, check_within


class GradientShares(Aggregation):
    r"""Gives each loss a stated share of the gradient, whatever its scale.

    With :math:`\bar n_i` the running mean of the norm of the gradient of loss ``i`` at the watched
    tensor (the model's output in EnCodec) or parameters,

    .. math:: w_i = \frac{s_i}{\sum_j s_j} \cdot \frac{R}{\bar n_i + \epsilon}, \qquad
        \bar n_i = \frac{\sum_{k \ge 0} \beta^k n_i(t - k)}{\sum_{k \ge 0} \beta^k}

    Args:
        losses: How many losses there are, or their unique names.
        shares: :math:`s_i`, by name or in order; default equal.
        total_norm: ``R``, the sum of the norms of the weighted gradients; EnCodec: 1.
        ema_decay: :math:`\beta`, how much of the averaged norms stays in a step; EnCodec: 0.999.
            With 0 the shares hold exactly in each step.
        item_size: How many numbers of the watched tensor belong to one item of the batch: the norm
            is then the mean of the items' norms, as in EnCodec. ``None`` is the norm of the whole.
        eps: :math:`\epsilon`, added to each norm before the division; EnCodec: 1e-12.
        options: See `Aggregation`. Priorities, like any scale, do not change the balance: give
            ``shares``. To watch the model's output, as EnCodec does, give it to
            ``backward(losses, wrt=output)``.

    Raises:
        ValueError: If a share is negative or missing, or a number is out of range.

    Example:
        >>> from equipoise.gradients.gradients import Gradients
        >>> gradients = Gradients(torch.tensor([[3.0, 4.0], [0.0, 100.0]]))
        >>> balancer = GradientShares(["a", "b"], shares={"a": 0.8, "b": 0.2})
        >>> weights = balancer.weigh(torch.tensor([1.0, 1.0]), gradients)
        >>> weights * gradients.norms()
        tensor([0.8000, 0.2000])

    References:
        Défossez, Copet, Synnaeve, Adi 2022, arXiv 2210.13438, section 3.4 (Balancer).

    Differs from EnCodec's code in that a loss that never had a gradient is weighted by its share,
    not by ``1 / eps``, and in that a loss may be absent. Its ``rescale_grads=False`` is `Fixed`.
    """

    looks_at: LooksAt = "norms"
    default_wrt: ClassVar[Literal["shared", "last_shared", "representation"]] = "representation"

    shares: Tensor
    norm_sum: Tensor
    norm_count: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        shares: PerLoss | None = None,
        total_norm: float = 1.0,
        ema_decay: float = 0.999,
        item_size: int | None = None,
        eps: float = 1e-12,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        found = per_loss(1.0 if shares is None else shares, self.names, "shares")
        check_shares("shares", found)
        check_within(0, 1, ema_decay=ema_decay)
        check_positive(total_norm=total_norm, eps=eps)
        self.total_norm = total_norm
        self.ema_decay = ema_decay
        self.item_size = item_size
        self.eps = eps
        self.option("shares", found)
        self.state("norm_sum", torch.zeros(len(self.names)))
        self.state("norm_count", torch.zeros(len(self.names)))

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        norms = gradients.norms() if self.item_size is None else gradients.per_loss(self._per_item)
        self.norm_sum = self.ema_decay * self.norm_sum + norms.to(values.dtype)
        self.norm_count = self.ema_decay * self.norm_count + 1
        mean = self.norm_sum / self.norm_count
        shares = (self.shares / self.shares.sum()).to(values.dtype)
        return torch.where(mean > 0, shares * self.total_norm / (mean + self.eps), shares)

    def _per_item(self, row: Row) -> Tensor:
        size = self.item_size or 1
        if len(row) != 1 or row[0].numel() % size:
            msg = (
                f"`item_size` is {size}, but what is watched has {[len(part) for part in row]} "
                "numbers; watch one tensor whose first dimension is the batch."
            )
            raise ValueError(msg)
        norms: Tensor = torch.linalg.vector_norm(row[0].view(-1, size), dim=1)
        return norms.mean()
