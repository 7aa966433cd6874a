"""Soft optimal uncertainty weighting, UW-SO (Kirchdorfer et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from equipoise.parts.checks import check_positive
from equipoise.weighting.base import Weighting

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from equipoise.learner import BalancerOptions
    from equipoise.losses import LossNames


class SoftUncertainty(Weighting):
    r"""Weighs losses by a softmax of their inverses: what uncertainty weighting would end up with.

    For an L1 likelihood the uncertainty that `Uncertainty` descends to is the loss itself,
    :math:`\sigma_i = L_i`. Put in and tempered,

    .. math:: w_i = \frac{e^{1 / (T L_i)}}{\sum_j e^{1 / (T L_j)}}

    The weights sum to 1; the smallest loss weighs most.

    Args:
        losses: How many losses there are, or their unique names.
        temperature: The paper's ``T``, tuned for each data set there; 1 here. Large: equal weights.
        eps: Added to each loss before it is inverted, against division by zero.
        options: See `Balancer`.

    Raises:
        ValueError: If ``temperature`` or ``eps`` is not positive.

    Example:
        >>> import torch
        >>> SoftUncertainty(["small", "large"]).weigh(torch.tensor([0.5, 1.0]))
        tensor([0.7311, 0.2689])

    References:
        Kirchdorfer, Elich, Kutsche, Stuckenschmidt, Schott, Köhler 2024, arXiv 2408.07985, UW-SO.

    Differs from the paper in the ``eps``. The paper's UW-O, ``w_i = 1 / L_i``, is `LogSum`.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    def __init__(
        self,
        losses: LossNames,
        *,
        temperature: float = 1.0,
        eps: float = 1e-8,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_positive(temperature=temperature, eps=eps)
        self.temperature = temperature
        self.eps = eps

    @property
    def halted_by(self) -> tuple[str, ...]:
        """Any loss: the softmax of inverse losses is at its corner."""
        return self.names

    def _weigh(self, values: Tensor) -> Tensor:
        inverses = 1 / (values + self.eps)
        return (inverses / self.temperature).softmax(dim=0)
