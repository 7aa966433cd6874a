"""DB-PINN: dual balancing for physics-informed networks (Zhou et al. 2025)."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients, Row
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice
from equipoise.parts.elements import kurtosis, largest_and_mean, standard_deviation
from equipoise.parts.marking import mark

GradientStatistic: TypeAlias = Literal["mean", "std", "kurtosis"]


class DBPINN(Aggregation):
    r"""Weighs conditions against the residual as a whole, and each by how hard it is to fit.

    With ``r`` the reference loss (the residual of the equation), the others are conditions
    (boundary, initial, data). All conditions together get the weight that brings their gradients to
    the size of the residual's, and share it by difficulty:

    .. math:: H = \sum_{i \ne r} \frac{\max |\nabla L_r|}{\mathrm{mean} |\lambda_i \nabla L_i|},
        \qquad h_i = H \, \frac{L_i / \bar L_i}{\sum_{j \ne r} L_j / \bar L_j}

    :math:`\lambda_i` is the mean of all :math:`h_i` up to now, :math:`\bar L_i` that of the values
    of loss ``i``, and :math:`\lambda_r = 1`.

    Args:
        losses: How many losses there are, or their unique names.
        reference: The name of the reference loss; default the first.
        statistic: What a gradient's size is: ``"mean"`` as above; ``"std"`` has the ratio of the
            standard deviations of the entries, of gradients before they are weighted;
            ``"kurtosis"`` the same of the deviations divided by the kurtoses. The authors call them
            DB_PINN_mean, DB_PINN_std and DB_PINN_kurt.
        options: See `Aggregation`. The authors have ``every=100``.

    Raises:
        ValueError: If a choice or a name is unknown.

    Example:
        >>> from equipoise.gradients.gradients import Gradients
        >>> gradients = Gradients(torch.tensor([[4.0, 0.0], [1.0, 1.0], [0.0, 4.0]]))
        >>> balancer = DBPINN(["residual", "boundary", "initial"])
        >>> balancer.weigh(torch.tensor([1.0, 1.0, 1.0]), gradients)
        tensor([1., 3., 3.])

    References:
        Zhou, Chen, Yang, Png 2025, Dual-Balancing for Physics-Informed Neural Networks, IJCAI,
        arXiv 2505.11117; the authors' code.

    Differs from the authors' code where that divides by zero: a condition whose gradient is zero
    adds nothing to ``H``, one whose values were all zero has no difficulty, and where no condition
    has a gradient, or the reference is absent or has none, weights rest. Means of a loss are those
    of the measured steps that had it. What is watched is what the losses share, not the linear
    layers alone.
    """

    looks_at: LooksAt = "norms"
    shardable: ClassVar[bool | None] = False

    is_reference: Tensor
    loss_weights: Tensor
    loss_means: Tensor
    counts: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        reference: str | None = None,
        statistic: GradientStatistic = "mean",
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_choice("statistic", statistic, ("mean", "std", "kurtosis"))
        self.defined_for = "nonnegative"
        self.statistic = statistic
        count = len(self.names)
        self.option("is_reference", mark(reference, self.names, "reference"))
        self.state("loss_weights", torch.ones(count))
        self.state("loss_means", torch.zeros(count))
        self.state("counts", torch.zeros(count))

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        sizes = gradients.per_loss(_STATISTICS[self.statistic]).to(values.dtype)
        ratios, counted = self._ratios(sizes)
        learns = (self.is_reference @ sizes[:, 0] != 0) & counted.any()
        counts = self.counts + 1
        means = self.loss_means + (values - self.loss_means) / counts
        newest = ratios.sum() * self._shares(values, means)
        before = torch.where(self.counts > 0, self.loss_weights, 0.0)
        learned = before + (newest - before) / counts
        learned = torch.where(self.is_reference > 0, 1.0, learned)
        self.loss_weights = torch.where(learns, learned, self.loss_weights)
        self.loss_means = torch.where(learns, means, self.loss_means)
        self.counts = torch.where(learns, counts, self.counts)
        return self.loss_weights

    def _ratios(self, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """The residual's size over that of each condition, ``[T]``, and which conditions count."""
        # An infinite size would pass for a condition that needs no weight.
        of_residual, of_others = sizes.where(sizes.isfinite(), torch.nan).unbind(dim=-1)
        if self.statistic == "mean":
            of_others = self.loss_weights.abs() * of_others
        counted = (of_others != 0) & (self.is_reference == 0)
        ratios = (self.is_reference @ of_residual) / of_others
        return torch.where(counted, ratios, 0.0), counted

    def _shares(self, values: Tensor, means: Tensor) -> Tensor:
        """What part of the conditions' weight each has, ``[T]``; zero for the residual."""
        condition = self.is_reference == 0
        difficulty = torch.where(condition & (means != 0), values / means, 0.0)
        total, count = difficulty.sum(), condition.sum().clamp(min=1)
        return torch.where(total != 0, difficulty / total, condition / count)


def _deviation(row: Row) -> Tensor:
    return standard_deviation(row).expand(2)


def _deviation_over_kurtosis(row: Row) -> Tensor:
    return (standard_deviation(row) / kurtosis(row)).expand(2)


_STATISTICS = {
    "mean": largest_and_mean,
    "std": _deviation,
    "kurtosis": _deviation_over_kurtosis,
}
"""The size of a gradient as the residual's, and as a condition's, ``[2]``."""
