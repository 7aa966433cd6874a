"""Aligned-MTL: the gradients' principal components get one length (Senushkin et al. 2023)."""

from __future__ import annotations

from functools import partial

from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import PerLoss
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_choice
from equipoise.parts.solve import solve_gramian
from equipoise.solvers import EigenvalueScale, aligned


class AlignedMTL(Aggregation):
    r"""Replaces the gradients by the nearest system of condition number 1, and combines that.

    .. math:: w = \sqrt{\lambda}\, V \Lambda^{-1/2} V^\top p, \qquad G = V \Lambda V^\top

    over the eigenvalues above :math:`T \epsilon \max \Lambda`. Weights may be negative.

    Args:
        losses: How many losses there are, or their unique names.
        preference: ``p``, one number or one per loss; authors' code: 1, the sum of the aligned
            gradients. ``1 / T`` is their mean, as in TorchJD.
        scale_mode: The common eigenvalue ``lambda``: the smallest kept (``"min"``, paper), their
            ``"median"`` (the lower of two) or their mean (``"rmse"``, as the authors call it).
        options: See `Aggregation`. Here ``heads`` is ``"plain"`` unless given, as in LibMTL: a
            negative weight would make a loss's own parameters raise it. ``balancer(losses)`` has
            no such exception; use ``backward`` where a loss has parameters of its own.

    Raises:
        ValueError: If ``scale_mode`` is unknown or ``preference`` not finite.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        >>> AlignedMTL(["a", "b"]).weigh(torch.ones(2), gradients)
        tensor([1.0000, 0.5000])

    References:
        Senushkin, Patakin, Kuznetsov, Konushin 2023, arXiv 2305.19000, Algorithm 1.

    Differs from the authors' code in the epsilon of the rank test, which is that of the gradients'
    dtype instead of the default one, and in that gradients that are all zero get ``w = p``.
    """

    preference: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        preference: PerLoss | float = 1.0,
        scale_mode: EigenvalueScale = "min",
        **options: Unpack[AggregationOptions],
    ) -> None:
        options.setdefault("heads", "plain")
        super().__init__(losses, **options)
        check_choice("scale_mode", scale_mode, ("min", "median", "rmse"))
        self.scale_mode: EigenvalueScale = scale_mode
        self.option("preference", per_loss(preference, self.names, "preference"))

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        solver = partial(aligned, scale=self.scale_mode)
        weights = solve_gramian(gradients.gram(), solver, self.preference)
        return weights.to(values.dtype)
