"""Inverse Dirichlet weighting for physics-informed networks (Maddu et al. 2022)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice, check_within
from equipoise.parts.elements import standard_deviation
from equipoise.parts.marking import mark


class InverseDirichlet(Aggregation):
    r"""Weighs losses by the inverse standard deviation of the entries of their gradients.

    .. math:: \lambda_i \leftarrow (1 - \alpha) \lambda_i + \alpha \hat\lambda_i, \qquad
        \hat\lambda_i = \frac{\gamma}{\mathrm{std}(\nabla L_i)}

    with :math:`\gamma = \mathrm{std}(\nabla L_r)` of the reference loss ``r``, the residual of the
    equation, or :math:`\gamma = \max_j \mathrm{std}(\nabla L_j)`.

    Args:
        losses: How many losses there are, or their unique names.
        reference: The name of the reference loss; default the first.
        alpha: How much the newest value counts, in (0, 1]; authors' code: 0.5.
        numerator: :math:`\gamma` is that of the ``"reference"`` (authors' code), whose weight is
            then 1, or the ``"largest"`` (paper), so that no new value is below 1.
        options: See `Aggregation`. The authors have ``every=5``.

    Raises:
        ValueError: If a choice or a name is unknown, or ``alpha`` is out of range.

    Example:
        >>> from equipoise.gradients.gradients import Gradients
        >>> gradients = Gradients(torch.tensor([[4.0, 0.0], [1.0, 2.0]]))
        >>> balancer = InverseDirichlet(["residual", "boundary"])
        >>> balancer.weigh(torch.tensor([1.0, 1.0]), gradients)
        tensor([1.0000, 2.5000])

    References:
        Maddu, Sturm, Müller, Sbalzarini 2022, Machine Learning: Science and Technology 3, 015026,
        arXiv 2107.00940.

    Differs from the paper in the numerator, as its authors' code does. Differs from that code in
    that a loss keeps its weight where its deviation is zero, and all keep theirs while the
    reference is absent or has no gradient. What is watched is what the losses share, not the linear
    layers alone.
    """

    looks_at: LooksAt = "norms"
    shardable: ClassVar[bool | None] = False

    loss_weights: Tensor
    is_reference: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        reference: str | None = None,
        alpha: float = 0.5,
        numerator: Literal["reference", "largest"] = "reference",
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_within(0, 1, closed="high", alpha=alpha)
        check_choice("numerator", numerator, ("reference", "largest"))
        self.alpha = alpha
        self.numerator = numerator
        self.option("is_reference", mark(reference, self.names, "reference"))
        self.state("loss_weights", torch.ones(len(self.names)))

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        deviations = gradients.per_loss(standard_deviation).to(values.dtype)
        above = deviations.amax()
        known = torch.ones_like(deviations, dtype=torch.bool)
        if self.numerator == "reference":
            above = self.is_reference @ deviations
            known = (above != 0) & known  # a residual without a gradient has no scale to give
        found = torch.where(deviations == 0, self.loss_weights, above / deviations)
        learned = (1 - self.alpha) * self.loss_weights + self.alpha * found
        self.loss_weights = torch.where(known, learned, self.loss_weights)
        return self.loss_weights
