"""GradNorm: gradient normalisation for adaptive loss balancing (Chen et al. 2018)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice, check_not_negative, check_positive
from equipoise.parts.rates import training_rates
from equipoise.parts.weight_optimizer import Rule, WeightOptimizer, descend_where


class GradNorm(Aggregation):
    r"""Learns weights that bring gradient norms to a common scale, larger for slower losses.

    With ``n_i`` the norm of the gradient of loss ``i`` at the last shared layer and
    ``G_i = |w_i| n_i``, one descent step on

    .. math:: L_{grad}(w) = \sum_i | G_i - \bar G\, r_i^\alpha |, \qquad
        r_i = \frac{L_i / L_i(0)}{\mathrm{mean}_j\, L_j / L_j(0)}

    with the target :math:`\bar G r_i^\alpha` held constant; then the weights are renormalised to
    their sum, ``T``. The derivative with respect to ``w_i`` is ``sign(G_i - target_i) n_i`` for
    a positive weight, so no second derivative is needed.

    Args:
        losses: How many losses there are, or their unique names.
        alpha: Strength of the pull towards a common training rate; paper: 1.5 on NYUv2, 0.12 in the
            toy problem.
        lr: Learning rate of the weights; paper: 0.025.
        optimizer: What descends on the weights: ``"adam"``, or ``"sgd"`` for the plain update.
        betas: Decay rates of Adam's moments. ``(0, 0)`` is the code of LucasBoTang, which starts
            Adam anew in each step: a step of ``lr`` by the sign.
        parametrisation: What is descended on: ``"direct"`` is ``w``, as in the paper;
            ``"exponential"`` is ``log w``, with the renormalisation left out of the gradient
            (PhysicsNeMo); ``"softmax"`` is ``s`` in ``w = T softmax(s)`` (LibMTL). With the last
            two weights are never negative.
        reduction: ``"sum"`` of the differences, as in the paper, or their ``"mean"``.
        floor: With ``"direct"``, weights below this part of their mean are raised to it before they
            are renormalised; 0 in the code published with CoV-Weighting. ``None`` has no such
            bound, as the paper: weights may then be negative, and raise their losses.
        total: The sum of the weights; ``None`` is ``T``, as in the paper.
        warmup: In how many steps the weights stay while the mean of the losses becomes ``L(0)``;
            LibMTL: the first epoch. With 0, as in the paper, ``L(0)`` is the first loss.
        options: See `Aggregation`.

    Raises:
        ValueError: If a choice is unknown or a number out of range.

    Example:
        >>> trunk, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
        >>> near, far = head(trunk(torch.ones(1, 3)).relu()).unbind(1)
        >>> balancer = GradNorm(["near", "far"])
        >>> record = balancer.backward({"near": near.square().mean(), "far": far.abs().mean()})
        >>> round(sum(balancer.weights.values()), 5)
        2.0

    References:
        Chen, Badrinarayanan, Lee, Rabinovich 2018, arXiv 1711.02257, equation 2, Algorithm 1.

    Differs from the paper in that a step applies the weights that it has just learned: they are
    known before its one backward pass of the model; and in that weights stay positive. Algorithm 1
    does not clamp them (``floor=None``): where norms differ a hundredfold, one step of ``lr``
    takes a weight below zero, and a sum near zero makes the renormalisation explode (-3e7 with
    ``lr=0.2`` and ten losses). On random quadratic problems with norms up to a
    thousand times apart this floor trains as well as none; 0.1 and the other parametrisations do
    worse there. A step of ``lr`` resolves no weight much below it, so that for norms further apart
    than ``T / lr`` the exponential form, or a smaller ``lr``, is the better one. A loss that starts
    at exactly zero has ratio 1. The widely used ``gradnorm-pytorch`` has the sign
    of the rate's exponent reversed: it computes what this class does with the opposite ``alpha``,
    ``optimizer="sgd"`` and ``reduction="mean"``. Code under this name that compares losses with
    those of the last step, or with weighted ones, or measures no gradient, is not reproduced.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    looks_at: LooksAt = "norms"
    default_wrt: ClassVar[Literal["shared", "last_shared", "representation"]] = "last_shared"

    initial: Tensor
    seen: Tensor
    loss_weights: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        alpha: float = 1.5,
        lr: float = 0.025,
        optimizer: Rule = "adam",
        betas: tuple[float, float] = (0.9, 0.999),
        parametrisation: Literal["direct", "exponential", "softmax"] = "direct",
        reduction: Literal["sum", "mean"] = "sum",
        floor: float | None = 1e-3,
        total: float | None = None,
        warmup: int = 0,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_choice("parametrisation", parametrisation, ("direct", "exponential", "softmax"))
        check_choice("reduction", reduction, ("sum", "mean"))
        count = len(self.names)
        total = count if total is None else total
        check_positive(total=total)
        check_not_negative(warmup=warmup)
        if floor is not None:
            check_not_negative(floor=floor)
        self.alpha = alpha
        self.parametrisation = parametrisation
        self.reduction = reduction
        self.floor = floor
        self.warmup = warmup
        self.optimizer = WeightOptimizer(self, optimizer, lr, betas=betas)
        self.start = total / count
        self.state("initial", torch.zeros(count))
        self.state("seen", torch.zeros(count))
        self.state("loss_weights", torch.full((count,), torch.nan))
        self.state("resting", torch.full((count,), self.start))

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        self._remember(values)
        begun = ~self.loss_weights.isnan()
        self.loss_weights = torch.where(begun, self.loss_weights, self.start)
        norms = gradients.norms().to(values.dtype)
        weighted = self.loss_weights.abs() * norms
        target = weighted.mean() * training_rates(values, self.initial) ** self.alpha
        # A norm's slope turns with its weight; at zero it points to where weights are positive.
        slopes = torch.sign(weighted - target) * norms.copysign(self.loss_weights)
        if self.reduction == "mean":
            slopes = slopes / len(values)
        if self.parametrisation == "direct":
            self.loss_weights = self._learn_weights(slopes)
        else:
            self.loss_weights = self._learn_logarithms(slopes)
        return self.loss_weights

    def _remember(self, values: Tensor) -> None:
        """Makes the mean loss of the first steps, or the first loss, ``L(0)``."""
        self.seen = self.seen + 1
        mean = self.initial + (values - self.initial) / self.seen
        self.initial = torch.where(self.seen <= max(self.warmup, 1), mean, self.initial)

    def _moved(self, numbers: Tensor, gradient: Tensor) -> Tensor:
        return descend_where(self.optimizer, self, numbers, gradient, self.seen > self.warmup)

    def _learn_weights(self, slopes: Tensor) -> Tensor:
        descended = self._moved(self.loss_weights, slopes)
        if self.floor is not None:
            descended = descended.clamp(min=self.floor * self.loss_weights.mean())
        return descended * (self.loss_weights.sum() / descended.sum())

    def _learn_logarithms(self, slopes: Tensor) -> Tensor:
        total = self.loss_weights.sum()
        gradient = self.loss_weights * slopes
        if self.parametrisation == "softmax":
            gradient = gradient - self.loss_weights * (gradient.sum() / total)
        smallest = torch.finfo(gradient.dtype).tiny  # a weight that underflowed has no logarithm
        logarithms = self.loss_weights.clamp(min=smallest).log()
        return total * self._moved(logarithms, gradient).softmax(dim=0)
