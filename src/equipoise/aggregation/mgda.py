"""MGDA: the point of smallest norm in the convex hull of the gradients (Sener & Koltun 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.parts.checks import check_choice
from equipoise.parts.reduction import Reduction
from equipoise.parts.solve import solve
from equipoise.solvers import min_norm_point

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from equipoise.gradients.gradients import Gradients
    from equipoise.losses import LossNames
    from equipoise.parts.solve import Matrix

Normalization: TypeAlias = Literal["none", "l2", "loss", "loss+"]


class MGDA(Aggregation):
    r"""Weighs by the convex combination of the gradients that has the smallest norm.

    .. math:: w = \arg\min_{w \ge 0,\ \sum_t w_t = 1}
        \left\| \sum_t w_t\, \frac{g_t}{n_t} \right\|^2

    It is zero at a Pareto stationary point, and elsewhere its negative lowers every loss. With
    ``wrt="representation"`` it is MGDA-UB, the upper bound that needs no pass through the trunk.

    Args:
        losses: How many losses there are, or their unique names.
        normalization: ``n_t`` is 1 for ``"none"`` (paper), ``||g_t||`` for ``"l2"``, ``|L_t|`` for
            ``"loss"``, ``|L_t| ||g_t||`` for ``"loss+"``; 1 where that is zero.
        apply_to: Whether the weights multiply the ``"raw"`` gradients, as in the authors' code, or
            the ``"normalized"`` ones, as in LibMTL: then the effective weights are ``w_t / n_t``.
            ``"rescaled"`` divides these by their sum, so that the update is a mean of the
            gradients again: with ``normalization="l2"`` this is EDM, below.
        reduction: ``"mean"`` has weights that sum to 1 (paper), ``"sum"`` to ``T`` (nash-mtl).
        options: See `Aggregation`.

    Raises:
        ValueError: If a choice is unknown.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        >>> MGDA(["a", "b"]).weigh(torch.ones(2), gradients)
        tensor([0.8000, 0.2000])

    ``MGDA(losses, normalization="l2", apply_to="rescaled")`` is the equiangular direction method,
    EDM: of the point of smallest norm in the hull of the unit gradients it takes the direction, and
    as length :math:`\gamma = 1 / \sum_t (w_t / \|g_t\|)` times its norm. The update has the same
    cosine with every gradient that has a weight, and the scales of the losses change its length
    alone.

    References:
        Désidéri 2012, Comptes Rendus Mathématique 350(5-6); Sener, Koltun 2018, arXiv 1810.04650,
        equation 3, and equation MGDA-UB; for EDM Katrutsa, Merkulov, Tursynbek, Oseledets 2020,
        Follow the bisector, arXiv 2007.06937.

    Differs from the authors' code in that the minimum is exact: their iteration stops early (an
    update longer by up to 9 percent was seen), and clips a pair's weights to 0.001 and 0.999.
    Differs from LibMTL's ``rep_grad`` in that gradients at a representation are not summed over
    the batch before they are compared: the paper compares them whole.
    """

    def __init__(
        self,
        losses: LossNames,
        *,
        normalization: Normalization = "none",
        apply_to: Literal["raw", "normalized", "rescaled"] = "raw",
        reduction: Reduction = "mean",
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_choice("normalization", normalization, ("none", "l2", "loss", "loss+"))
        check_choice("apply_to", apply_to, ("raw", "normalized", "rescaled"))
        self.normalization = normalization
        if normalization in ("loss", "loss+"):
            self.defined_for = "nonnegative"
        self.apply_to = apply_to
        check_choice("reduction", reduction, ("sum", "mean"))
        self.reduction = reduction

    @property
    def halted_by(self) -> tuple[str, ...]:
        """Any loss: its gradient, zero too, is the shortest combination of all."""
        return self.names

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        divisors = self._divisors(values, gradients)
        given = torch.cat([gradients.gram(), divisors[None]])
        weights = solve(given, _normalized_point).to(values.dtype)
        if self.apply_to != "raw":
            weights = weights / divisors
        if self.apply_to == "rescaled":
            weights = weights / weights.sum()
        return weights * len(weights) if self.reduction == "sum" else weights

    def _divisors(self, values: Tensor, gradients: Gradients) -> Tensor:
        divisors = torch.ones_like(values)
        if self.normalization in ("loss", "loss+"):
            divisors = divisors * values.abs()
        if self.normalization in ("l2", "loss+"):
            divisors = divisors * gradients.norms().to(values.dtype)
        return torch.where(divisors > 0, divisors, 1.0)


def _normalized_point(given: Matrix) -> Matrix:
    gram, n = given[:-1], given[-1]
    return min_norm_point(gram / n / n[:, None])
