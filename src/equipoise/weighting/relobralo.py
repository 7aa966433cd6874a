"""ReLoBRaLo: relative loss balancing with random lookback (Bischof & Kraus 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice, check_not_negative, check_positive, check_within
from equipoise.parts.random import Drawing
from equipoise.weighting.base import Weighting


class ReLoBRaLo(Weighting):
    r"""Weighs losses by how slowly they fell since the last step, or now and then since the first.

    .. math:: \hat\lambda_i(t; t') =
        T\, \mathrm{softmax}_i\Big(\frac{L_i(t)}{\tau L_i(t') + \varepsilon}\Big)

    .. math:: \lambda_i(t) = \alpha \big(\rho \lambda_i(t-1) + (1 - \rho) \hat\lambda_i(t; 0)\big)
        + (1 - \alpha) \hat\lambda_i(t; t-1), \qquad \rho \sim \mathrm{Bernoulli}

    The first step has weights 1. The weights sum to ``T``.

    Args:
        losses: How many losses there are, or their unique names.
        alpha: :math:`\alpha`, how much the past counts, in [0, 1]; paper: 0.999.
        expected_rho: :math:`E[\rho]`, how often the last weights are kept and not forgotten for a
            look back at the first losses, in [0, 1]; paper: 0.999.
        temperature: :math:`\tau`, larger for more even weights; authors' code: 1.
        eps: :math:`\varepsilon`, also added to the softmax's denominator, as in PhysicsNeMo, which
            has 1e-8; authors' code: 1e-12.
        source: ``"paper"``, or ``"code"`` for the authors' start: the losses before the first step
            count as 1, the second step has :math:`\alpha = 0`, and a look back goes to the losses
            of the second step.
        generator: Where :math:`\rho` comes from; a CPU generator. By default one of its own, seeded
            by torch's.
        options: See `Balancer`.

    Raises:
        ValueError: If a number is out of range or ``source`` unknown.

    Example:
        >>> balancer = ReLoBRaLo(["falling", "stalling"], alpha=0.5)
        >>> balancer.weigh(torch.tensor([2.0, 1.0]))
        tensor([1., 1.])
        >>> balancer.weigh(torch.tensor([1.0, 1.0]))
        tensor([0.8775, 1.1225])

    References:
        Bischof, Kraus 2021, Multi-Objective Loss Balancing for Physics-Informed Deep Learning,
        arXiv 2110.09813.

    Differs from the paper in nothing but ``eps``, which keeps a loss of exactly zero finite.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    steps: Tensor
    balanced: Tensor
    first: Tensor
    previous: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        alpha: float = 0.999,
        expected_rho: float = 0.999,
        temperature: float = 1.0,
        eps: float = 1e-12,
        source: Literal["paper", "code"] = "paper",
        generator: torch.Generator | None = None,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        _check(alpha, expected_rho, temperature, eps)
        check_choice("source", source, ("paper", "code"))
        self.alpha = alpha
        self.expected_rho = expected_rho
        self.temperature = temperature
        self.eps = eps
        self.source = source
        self.drawing = Drawing(self.names, generator)
        self.state("steps", torch.zeros(len(self.names)))
        for name in ("balanced", "first", "previous"):
            self.state(name, torch.ones(len(self.names)))

    def _weigh(self, values: Tensor) -> Tensor:
        return self.advance(values, self.drawing.draw(self._sample, values))

    def _sample(self, generator: torch.Generator) -> Tensor:
        return (torch.rand((), generator=generator) < self.expected_rho).float()

    def advance(self, values: Tensor, rho: Tensor) -> Tensor:
        """One step with a given draw.

        Args:
            values: ``[T]`` losses.
            rho: ``[]``, 1 to keep the last weights, 0 to look back.

        Returns:
            ``[T]`` weights.
        """
        alpha, rho = self._start(values, rho)
        kept = rho * self.balanced + (1 - rho) * self._relative(values, self.first)
        self.balanced = alpha * kept + (1 - alpha) * self._relative(values, self.previous)
        self.previous = values
        self.steps = self.steps + 1
        return self.balanced

    def _start(self, values: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        """Takes note of first losses; ``alpha`` and ``rho`` of each loss, which its start fixes."""
        new = self.steps == 0
        alpha = torch.where(new, 1.0, torch.full_like(values, self.alpha))
        if self.source == "code":
            second = self.steps == 1
            self.first = torch.where(second, values, self.first)
            return torch.where(second, 0.0, alpha), rho
        self.first = torch.where(new, values, self.first)
        self.previous = torch.where(new, values, self.previous)
        return alpha, torch.where(new, 1.0, rho)

    def _relative(self, values: Tensor, past: Tensor) -> Tensor:
        ratios = values / (self.temperature * past + self.eps)
        scores = torch.exp(ratios - ratios.max())
        return len(values) * scores / (scores.sum() + self.eps)


def _check(alpha: float, expected_rho: float, temperature: float, eps: float) -> None:
    check_within(0, 1, alpha=alpha, expected_rho=expected_rho)
    check_positive(temperature=temperature)
    check_not_negative(eps=eps)
