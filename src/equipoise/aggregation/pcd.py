"""PCD: follows one loss and guarantees the others progress (priority-constrained descent)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import PerLoss
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_positive, check_within
from equipoise.parts.solve import Matrix, solve_gramian
from equipoise.solvers.least_distance import nearest_direction
from equipoise.solvers.scaling import norm_bounds


class PCD(Aggregation):
    r"""Follows the primary gradient as closely as a minimal progress of all others allows.

    With :math:`v_t` the moving average of :math:`\|g_t\|^2`, corrected for its start at zero, and
    :math:`n_t = g_t / \sqrt{\hat v_t + \epsilon}`,

    .. math:: d^* = \arg\min_d \|d - n_0\|^2 \quad \text{subject to} \quad
        n_j^\top d \ge \tau_j \|n_j\|^2,\ j \ge 1, \qquad
        d = \|g_0\|\, \frac{d^*}{\|d^*\|}

    Every :math:`d` is a combination of the gradients, so that the Gramian is all it takes. Where
    the constraints contradict each other, :math:`d = g_0`; where :math:`g_0` is zero, so is ``d``.

    Args:
        losses: How many losses there are, or their unique names.
        primary: The name of the loss that is the goal, loss 0; default the first. In a step that
            does not have it, the first loss that is there takes its place.
        tau: :math:`\tau`, in [0, 1], one number, or one for each other loss, by name or in order;
            paper: 0.02.
        beta: Decay of the moving average, in [0, 1); paper: 0.999.
        eps: :math:`\epsilon`, added to the mean squares under the root; paper: 1e-8.
        options: See `Aggregation`. Priorities, like any scale, do not change the balance: raise a
            loss's ``tau``. Here ``heads`` is ``"plain"`` unless given: a loss that makes
            its progress anyway has weight zero, and its own parameters would stand still.

    Raises:
        ValueError: If ``primary`` is no loss, or a number is out of range.

    Example:
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[2.0, 0.0], [-1.0, 1.0]]))
        >>> PCD(["main", "other"], tau=0.0).combine(torch.ones(2), gradients)
        tensor([1.4142, 1.4142])

    References:
        "Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical
        Multi-Objective Optimization", TMLR 2026, arXiv 2606.29521.

    Differs from the authors' code, which enumerates the sets of active constraints, in how the same
    minimum is found.
    """

    is_primary: Tensor
    progress: Tensor
    square_norms: Tensor
    steps: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        primary: str | None = None,
        tau: PerLoss | float = 0.02,
        beta: float = 0.999,
        eps: float = 1e-8,
        **options: Unpack[AggregationOptions],
    ) -> None:
        options.setdefault("heads", "plain")
        super().__init__(losses, **options)
        primary = self.names[0] if primary is None else primary
        if primary not in self.names:
            raise ValueError(f"`primary` is {primary!r}; the losses are {', '.join(self.names)}.")
        check_within(0, 1, closed="low", beta=beta)
        check_positive(eps=eps)
        self.beta = beta
        self.eps = eps
        count = len(self.names)
        first = torch.tensor([name == primary for name in self.names])
        self.option("is_primary", first)
        self.option("progress", torch.zeros(count).double().masked_scatter(~first, self._taus(tau)))
        self.state("square_norms", torch.zeros(count))
        self.state("steps", torch.zeros(count))

    def _taus(self, tau: PerLoss | float) -> Tensor:
        others = tuple(n for n, first in zip(self.names, self.is_primary, strict=True) if not first)
        taus = per_loss(tau, others, "tau", default=0.02)
        if bool(((taus < 0) | (taus > 1)).any()):
            raise ValueError(f"`tau` is {tau}; the progress of a loss lies between 0 and 1.")
        return taus

    @property
    def halted_by(self) -> tuple[str, ...]:
        """The primary loss: the others may only help it."""
        return tuple(
            n for n, primary in zip(self.names, self.is_primary.tolist(), strict=True) if primary
        )

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        gram = gradients.gram()
        squares = gram.diagonal().to(values.dtype)
        self.steps = self.steps + 1
        self.square_norms = self.square_norms.lerp(squares, 1 - self.beta)
        scales = (self.square_norms / (1 - self.beta**self.steps) + self.eps).rsqrt()
        primary = self.is_primary.double()
        found = solve_gramian(gram, _weights, scales, self.progress.double(), primary)
        return found.to(values.dtype)


def _weights(
    gram: Matrix, scales: Matrix, progress: Matrix, is_primary: Matrix, precision: float
) -> Matrix:
    primary = int(is_primary.argmax())
    normalised = gram * scales * scales[:, None]
    weights = nearest_direction(normalised, primary, progress, precision) * scales
    longest = norm_bounds(gram, weights, precision)[1]
    if longest == 0:
        return np.zeros_like(weights)
    scaled: Matrix = weights * np.sqrt(gram[primary, primary]) / longest
    return scaled
