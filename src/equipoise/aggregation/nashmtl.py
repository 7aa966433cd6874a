"""Nash-MTL: the gradients bargain for the update (Navon et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.parts.solve import solve_gramian
from equipoise.solvers import nash_bargaining
from equipoise.solvers.scaling import norm_bounds

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from equipoise.gradients.gradients import Gradients
    from equipoise.losses import LossNames
    from equipoise.parts.solve import Matrix


class NashMTL(Aggregation):
    r"""Weighs by the Nash bargaining solution: no loss can gain a share that another loses more of.

    .. math:: \alpha_t\, (G \alpha)_t = 1, \quad \alpha > 0, \qquad
        w = \alpha \min\!\left( 1, \frac{\text{max\_norm}}{\|J^\top \alpha\|} \right)

    The direction does not depend on the scale of any loss.

    Args:
        losses: How many losses there are, or their unique names.
        max_norm: Largest norm of the combined gradient; authors' code: 1. With 0 it is not clipped:
            its norm is then :math:`\sqrt T`.
        options: See `Aggregation`. ``every`` is the authors' ``update_weights_every``.

    Raises:
        ValueError: If ``max_norm`` is negative.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        >>> NashMTL(["a", "b"], max_norm=0).weigh(torch.ones(2), gradients)
        tensor([1.0000, 0.5000])

    References:
        Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya 2022, arXiv 2202.01017,
        claim 3.1, Algorithm 1.

    Differs from the authors' code, which approaches the solution by up to 20 cone programs that
    start from the last step's weights, and silently keeps these where they fail: the solution here
    is exact and has no memory. The norm is clipped by the weights, so that they are those that
    were applied; with ``every`` above 1 the clipped weights are reused. A gradient of zero has
    weight 0; gradients that cancel get the weights with which they cancel.
    """

    def __init__(
        self, losses: LossNames, *, max_norm: float = 1.0, **options: Unpack[AggregationOptions]
    ) -> None:
        super().__init__(losses, **options)
        if not max_norm >= 0:
            raise ValueError(f"`max_norm` is {max_norm}; write a positive norm, or 0 for none.")
        self.max_norm = max_norm

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        return solve_gramian(gradients.gram(), self._bargain).to(values.dtype)

    def _bargain(self, gram: Matrix, precision: float) -> Matrix:
        alpha = nash_bargaining(gram, precision)
        norm = norm_bounds(gram, alpha, precision)[1]
        if 0 < self.max_norm < norm:
            alpha = alpha * (self.max_norm / norm)
        return alpha
