"""MoCo: stochastic gradients are tracked before they are weighed (Fernando et al. 2023)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.aggregation.mgda import Normalization
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice, check_not_negative, check_within
from equipoise.parts.solve import solve
from equipoise.solvers.simplex import simplex_projection


class MoCo(Aggregation):
    r"""Tracks each loss's gradient and takes one descent step a batch on the weights of MGDA.

    With ``k`` the number of the step,

    .. math:: y_t \leftarrow y_t + \tfrac{\beta}{k^{\sigma_\beta}} (g_t - y_t), \qquad
        z_t = y_t / n_t, \qquad
        \lambda \leftarrow \Pi_\Delta\big( \lambda
        - \tfrac{\gamma}{k^{\sigma_\gamma}} (Z Z^\top + \rho I) \lambda \big), \qquad
        d = Z^\top \lambda

    The result is a combination of tracked gradients, not of those of the step.

    Args:
        losses: How many losses there are, or their unique names.
        beta: Step size of the tracking; authors' code: 0.1. LibMTL: 0.5.
        gamma: Step size of the weights; authors' code: 0.1.
        rho: Weight of the l2 penalty on the weights; authors' code: 0.1. LibMTL: 0.
        beta_sigma: :math:`\sigma_\beta`, how fast ``beta`` decays with the steps; authors' code 0,
            LibMTL 0.5.
        gamma_sigma: :math:`\sigma_\gamma`, how fast ``gamma`` decays with the steps; authors' code
            0, LibMTL 0.5.
        normalization: ``n_t`` is 1 for ``"none"``, ``||y_t||`` for ``"l2"``, ``|L_t|`` for
            ``"loss"``, ``|L_t| ||y_t||`` for ``"loss+"``; 1 where that is zero.
        tracks: What is tracked of each loss: with ``"gradient"`` ``g_t``, with ``"loss_length"``
            :math:`L_t g_t / (\|g_t\| + 10^{-8})`, as in LibMTL.
        simplex: How weights get back onto the simplex: by Euclidean ``"projection"``, or by a
            ``"softmax"`` of the weights, as in LibMTL, which pulls them to nearly equal each step.
        options: See `Aggregation`.

    Raises:
        ValueError: If a choice is unknown or a number out of range.

    Example:
        >>> from equipoise import Gradients
        >>> balancer = MoCo(["a", "b"], beta=1.0)
        >>> balancer.combine(torch.ones(2), Gradients(torch.tensor([[1.0, 0.0], [0.0, 1.0]])))
        tensor([0.5000, 0.5000])

    References:
        Fernando, Shen, Liu, Chaudhury, Murugesan, Chen 2023, ICLR, "Mitigating gradient bias in
        multi-objective learning", Algorithm 1; arXiv 2210.12624.

    Differs from the authors' code in that a loss or gradient of exactly zero is not divided by.
    """

    looks_at: LooksAt = "gradients"
    weighting: bool = False

    tracked: Tensor
    steps: Tensor
    loss_weights: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        beta: float = 0.1,
        gamma: float = 0.1,
        rho: float = 0.1,
        beta_sigma: float = 0.0,
        gamma_sigma: float = 0.0,
        normalization: Normalization = "none",
        tracks: Literal["gradient", "loss_length"] = "gradient",
        simplex: Literal["projection", "softmax"] = "projection",
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_choice("normalization", normalization, get_args(Normalization))
        check_choice("tracks", tracks, ("gradient", "loss_length"))
        check_choice("simplex", simplex, ("projection", "softmax"))
        check_within(0, 1, closed="high", beta=beta)
        check_not_negative(gamma=gamma, rho=rho, beta_sigma=beta_sigma, gamma_sigma=gamma_sigma)
        self.beta, self.beta_sigma = beta, beta_sigma
        self.gamma, self.gamma_sigma = gamma, gamma_sigma
        self.rho = rho
        self.normalization = normalization
        self.tracks = tracks
        self.simplex = simplex
        count = len(self.names)
        self.state("tracked", torch.zeros(count, 0))
        self.state("steps", torch.zeros(count))
        self.state("loss_weights", torch.full((count,), 1 / count, dtype=torch.float64))

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        self.steps = self.steps + 1
        self._track(values, gradients)
        tracked = Gradients(self.tracked)
        normalized = tracked.scaled(1 / self._divisors(values, tracked))
        gram = normalized.gram()
        weights = self.loss_weights.to(gram.dtype)
        slope = gram @ weights + self.rho * weights
        point = weights - self.gamma / self.steps**self.gamma_sigma * slope
        if self.simplex == "softmax":
            self.loss_weights = point.softmax(dim=0).to(values.dtype)
        else:
            self.loss_weights = solve(point, simplex_projection).to(values.dtype)
        return normalized.combine(self.loss_weights)

    def _track(self, values: Tensor, gradients: Gradients) -> None:
        if self.tracks == "loss_length":
            gradients = gradients.scaled(values / (gradients.norms().to(values.dtype) + 1e-8))
        rate = (self.beta / self.steps**self.beta_sigma)[:, None]
        for rows, tracked in gradients.blocks(self._sized("tracked", gradients)):
            tracked.add_(rate * (rows - tracked))

    def _divisors(self, values: Tensor, tracked: Gradients) -> Tensor:
        divisors = torch.ones_like(values)
        if self.normalization in ("loss", "loss+"):
            divisors = divisors * values.abs()
        if self.normalization in ("l2", "loss+"):
            divisors = divisors * tracked.norms()
        return torch.where(divisors > 0, divisors, 1.0)
