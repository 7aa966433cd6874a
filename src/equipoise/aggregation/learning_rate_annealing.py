"""Learning rate annealing for physics-informed networks (Wang, Teng & Perdikaris 2020)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients, Row
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice, check_not_negative, check_within
from equipoise.parts.elements import largest_and_mean
from equipoise.parts.marking import mark


class LearningRateAnnealing(Aggregation):
    r"""Raises the weights of losses whose gradients are small beside those of the residual.

    With ``r`` the reference loss (the residual of the equation),

    .. math:: \lambda_i \leftarrow (1 - \alpha) \lambda_i + \alpha \hat\lambda_i, \qquad
        \hat\lambda_i = \frac{\max |\nabla L_r|}{\mathrm{mean} |\nabla \lambda_i L_i| + \epsilon}

    and :math:`\lambda_r = 1`; means are those of the tensors, averaged. The published codes are
    these choices:

    ======================  =========  ==============  ===========  =============  =====  =======
    code                    numerator  pooling         denominator  reference      alpha  epsilon
    ======================  =========  ==============  ===========  =============  =====  =======
    paper, ConFIG           max        elements        plain        fixed          0.1    0
    authors, Helmholtz      max        layer_means     weighted     fixed          0.1    0
    authors, Navier-Stokes  max        layer_ratios    weighted     fixed          0.1    0
    PhysicsNeMo             mean       elements        plain        averaged       0.01   1e-8
    ReLoBRaLo's authors     mean       elements        plain        fixed          0.001  1e-8
    ======================  =========  ==============  ===========  =============  =====  =======

    Args:
        losses: How many losses there are, or their unique names.
        reference: The name of the reference loss; default the first.
        alpha: How much the newest value counts, in (0, 1]. The paper recommends 0.9, its authors'
            code has 0.1, which is the default here.
        numerator: ``"max"``, or ``"mean"`` as in Jin et al. 2021 (NSFnets).
        pooling: ``"layer_means"`` averages the means of the tensors; ``"elements"`` pools over all
            elements (paper); ``"layer_ratios"`` takes the largest ratio among the tensors.
        denominator: ``"weighted"`` is the gradient of :math:`\lambda_i L_i`, with which
            :math:`\lambda_i` settles at the root of the ratio; ``"plain"`` that of :math:`L_i`
            (paper), with which a weight that helps raises itself: see below.
        reference_weight: ``"fixed"`` at 1, or ``"averaged"`` like the others.
        eps: :math:`\epsilon`, added to the denominator.
        options: See `Aggregation`. The authors watch weight matrices, no biases, and have
            ``every=10``.

    Raises:
        ValueError: If a choice or a name is unknown, or a number out of range.

    Example:
        >>> from equipoise.gradients.gradients import Gradients
        >>> gradients = Gradients(torch.tensor([[4.0, 0.0], [1.0, 1.0]]))
        >>> balancer = LearningRateAnnealing(["residual", "boundary"], alpha=0.5)
        >>> balancer.weigh(torch.tensor([1.0, 1.0]), gradients)
        tensor([1.0000, 2.5000])
        >>> balancer.weigh(torch.tensor([1.0, 1.0]), gradients)
        tensor([1.0000, 2.0500])

    References:
        Wang, Teng, Perdikaris 2020, arXiv 2001.04536, Algorithm 1; Jin, Cai, Li, Karniadakis 2021,
        arXiv 2003.06496.

    Differs from the paper's letter (``pooling="elements", denominator="plain"``) by following its
    authors' code. As a boundary condition is met its gradient vanishes, which raises its weight,
    which meets it better still: on the Helmholtz and Klein-Gordon equations weights pass 1e7 within
    2,000 steps and the solution is lost, where the code's stay near 100.

    Differs from the authors' code in that a step applies the weights that it has just computed. A
    loss keeps its weight where its gradient and ``eps`` are zero, or the reference is absent.
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
        alpha: float = 0.1,
        numerator: Literal["max", "mean"] = "max",
        pooling: Literal["elements", "layer_means", "layer_ratios"] = "layer_means",
        denominator: Literal["plain", "weighted"] = "weighted",
        reference_weight: Literal["fixed", "averaged"] = "fixed",
        eps: float = 0.0,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_within(0, 1, closed="high", alpha=alpha)
        check_not_negative(eps=eps)
        check_choice("numerator", numerator, ("max", "mean"))
        check_choice("pooling", pooling, ("elements", "layer_means", "layer_ratios"))
        check_choice("denominator", denominator, ("plain", "weighted"))
        check_choice("reference_weight", reference_weight, ("fixed", "averaged"))
        self.alpha = alpha
        self.numerator = numerator
        self.pooling = pooling
        self.denominator = denominator
        self.reference_weight = reference_weight
        self.eps = eps
        self.option("is_reference", mark(reference, self.names, "reference"))
        self.state("loss_weights", torch.ones(len(self.names)))

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        statistic = _over_elements if self.pooling == "elements" else _over_tensors
        found = self._ratios(gradients.per_loss(statistic).to(values.dtype))
        learned = (1 - self.alpha) * self.loss_weights + self.alpha * found
        if self.reference_weight == "fixed":
            learned = torch.where(self.is_reference > 0, 1.0, learned)
        self.loss_weights = torch.where(self.is_reference.any(), learned, self.loss_weights)
        return self.loss_weights

    def _ratios(self, statistics: Tensor) -> Tensor:
        """The new values, ``[T]``, from the maxima and means of ``[T, tensors, 2]``."""
        maxima, means = statistics.unbind(dim=-1)
        if self.pooling == "layer_means":
            maxima, means = maxima.amax(1, keepdim=True), means.mean(1, keepdim=True)
        above = self.is_reference @ (maxima if self.numerator == "max" else means)
        if self.denominator == "weighted":
            means = self.loss_weights.abs()[:, None] * means
        below = means + self.eps
        ratios = torch.where(below > 0, above / below, 0.0).amax(dim=1)
        return torch.where((below > 0).any(dim=1), ratios, self.loss_weights)


def _over_tensors(row: Row) -> Tensor:
    """Largest and mean absolute value of each tensor, ``[tensors, 2]``."""
    return torch.stack([torch.stack([size.amax(), size.mean()]) for size in map(torch.abs, row)])


def _over_elements(row: Row) -> Tensor:
    """Largest and mean absolute value of all elements, ``[1, 2]``."""
    return largest_and_mean(row)[None]
