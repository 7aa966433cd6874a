"""Nash-MTL: the gradients bargain for the update (Navon et al. 2022)."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.autograd.targets import Wrt
from equipoise.balancer import Decide, Outcome
from equipoise.gradients.apply import BackwardPass
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.measuring import Measuring
from equipoise.gradients.meter import Meter
from equipoise.learner import Step
from equipoise.losses import LossNames, Terms
from equipoise.parts.checks import check_not_negative
from equipoise.parts.solve import Matrix, solve_gramian
from equipoise.solvers import nash_bargaining
from equipoise.solvers.scaling import norm_bounds


class NashMTL(Aggregation):
    r"""Weighs by the Nash bargaining solution: no loss can gain a share that another loses more of.

    .. math:: \alpha_t\, (G \alpha)_t = 1, \quad \alpha > 0, \qquad
        w = \alpha \min\!\left( 1, \frac{\text{max\_norm}}{\|J^\top \alpha\|} \right)

    The direction does not depend on the scale of any loss.

    Args:
        losses: How many losses there are, or their unique names.
        max_norm: Largest norm of the combined gradient; authors' code: 1. With 0 it is not clipped:
            its norm is then :math:`\sqrt T`.
        options: See `Aggregation`. ``every`` is the authors' ``update_weights_every``. Priorities,
            like any scale, do not change the balance.

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
    were applied; with ``every`` above 1 the unclipped ones are reused, and each step between
    updates is clipped by its own gradient, at the price of one more pass. A gradient of zero has
    weight 0; gradients that cancel get the weights with which they cancel; float32 is dealt with as
    in `FairGrad`.
    """

    bargained: Tensor

    def __init__(
        self, losses: LossNames, *, max_norm: float = 1.0, **options: Unpack[AggregationOptions]
    ) -> None:
        super().__init__(losses, **options)
        check_not_negative(max_norm=max_norm)
        self.max_norm = max_norm
        if self.every > 1:
            self.state("bargained", torch.ones(len(self.names)))
        self._norm_meter = Meter(Measuring(), self.processes, needs="norms")

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        found = solve_gramian(gradients.gram(), _bargained).to(values.dtype)
        alpha, norm = found[: len(values)], found[-1]
        if self.every > 1:
            self.bargained = alpha
        return self._clipped(alpha, norm)

    def _clipped(self, weights: Tensor, norm: Tensor) -> Tensor:
        if self.max_norm == 0:
            return weights
        return weights * torch.where(norm > self.max_norm, self.max_norm / norm, 1.0)

    def _weights(
        self, step: Step, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> tuple[Tensor, Gradients | None]:
        return super()._weights(step, wrt, decide or partial(self._decide_at, wrt))

    def _step(
        self, step: Step, how: BackwardPass, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> Outcome:
        return super()._step(step, how, wrt, decide or partial(self._decide_at, wrt))

    def _decide_at(self, wrt: Wrt | None, step: Step, gradients: Gradients | None) -> Tensor:
        """The weights to apply; those of an earlier step are clipped by this one's gradient."""
        decided = self._decide(step, gradients)
        live = all(loss.requires_grad for loss in step.terms.tensors)
        if gradients is not None or self.max_norm == 0 or self.every == 1 or not live:
            return decided
        with self.among(step.terms.present):
            weights = self.bargained * self.factors
        norm = self._norm(step.terms, weights, wrt)
        return decided if norm is None else self._clipped(weights, norm.to(weights.dtype))

    def _norm(self, terms: Terms, weights: Tensor, wrt: Wrt | None) -> Tensor | None:
        """The norm of the balanced loss's gradient, by one pass down to where it is watched."""
        watched = self._norm_meter.watch(terms, self._wrt.unless(wrt))
        if watched is None:
            return None
        tensors = (terms.balanced(weights),) if terms.tensors else ()
        total = Terms(("total",), (0,), tensors, tuple(range(len(tensors))))
        run = self._norm_meter.run(total, watched, retain_graph=True, applies=False)
        return run.gradients.norms()[0]


def _bargained(gram: Matrix, precision: float) -> Matrix:
    """The solution, and below it the norm of the combined gradient: ``[T + 1]``."""
    alpha = nash_bargaining(gram, precision)
    return np.append(alpha, norm_bounds(gram, alpha, precision)[1])
