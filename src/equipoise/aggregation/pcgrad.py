"""PCGrad: each gradient is projected off those that it conflicts with (Yu et al. 2020)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice, check_not_negative
from equipoise.parts.random import Drawing
from equipoise.parts.reduction import Reduction


class PCGrad(Aggregation):
    r"""Projects each gradient onto the normal planes of those it conflicts with, in random order.

    Starting from :math:`g_i' = g_i`, for each other ``j`` in an order drawn for ``i``

    .. math:: g_i' \leftarrow g_i' - \frac{\min(g_i' \cdot g_j,\ 0)}{\|g_j\|^2 + \epsilon}\, g_j,
        \qquad d = \sum_i g_i'

    Every :math:`g_i'` is a combination of the gradients, so that the Gramian is all it takes.

    Args:
        losses: How many losses there are, or their unique names.
        order: ``"random"`` draws a new order for each gradient (paper); ``"ascending"`` is that of
            the losses, as in conflictfree.
        project_on_own: Whether a gradient that was turned by more than 90 degrees is projected on
            its own original too, as in LibMTL and nash-mtl; the paper leaves ``j = i`` out.
        eps: Added to the squared norm; paper 0, LibMTL 1e-8.
        reduction: ``"sum"`` of the projected gradients (paper), or their ``"mean"``.
        generator: Where orders come from, on the CPU; ``None`` makes one, seeded by torch's own.
        options: See `Aggregation`.

    Raises:
        ValueError: If a choice is unknown or ``eps`` is negative.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
        >>> PCGrad(["a", "b"]).weigh(torch.ones(2), gradients)
        tensor([2.0000, 1.5000])

    References:
        Yu, Kumar, Gupta, Levine, Hausman, Finn 2020, arXiv 2001.06782, Algorithm 1.

    Differs from the paper in nothing; a gradient of zero is never projected on.
    """

    def __init__(
        self,
        losses: LossNames,
        *,
        order: Literal["random", "ascending"] = "random",
        project_on_own: bool = False,
        eps: float = 0.0,
        reduction: Reduction = "sum",
        generator: torch.Generator | None = None,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_choice("order", order, ("random", "ascending"))
        check_not_negative(eps=eps)
        self.order = order
        self.project_on_own = project_on_own
        self.eps = eps
        check_choice("reduction", reduction, ("sum", "mean"))
        self.reduction = reduction
        self.drawing = Drawing(self.names, generator)

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        return self.project(gradients.gram(), self._orders(values)).to(values.dtype)

    def _orders(self, values: Tensor) -> Tensor:
        count = len(values)
        if self.order == "ascending":
            return torch.arange(count, device=values.device).expand(count, count)
        keys = self.drawing.draw(lambda source: torch.rand(count, count, generator=source), values)
        return keys.argsort(dim=1)

    def project(self, gram: Tensor, orders: Tensor) -> Tensor:
        """The weights for given orders.

        Args:
            gram: ``[T, T]`` Gramian.
            orders: ``[T, T]``, row ``i`` the order in which gradient ``i`` visits all gradients.

        Returns:
            ``[T]``.
        """
        visits = orders.T
        squares = gram.diagonal()[visits]
        # Below the smallest normal number the inverse would not be finite.
        allowed = squares >= torch.finfo(gram.dtype).tiny
        if not self.project_on_own:
            allowed &= visits != torch.arange(len(gram), device=gram.device)
        inverses = torch.where(allowed, 1 / (squares + self.eps), 0.0)
        projected = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        for visited, rows, inverse in zip(visits, gram[visits], inverses, strict=True):
            conflict = (projected * rows).sum(dim=1).clamp(max=0)
            projected.scatter_add_(1, visited[:, None], (-conflict * inverse)[:, None])
        return projected.sum(dim=0) if self.reduction == "sum" else projected.mean(dim=0)
