"""SoftAdapt: weights from the slopes of the losses (Heydari et al. 2019)."""

from __future__ import annotations

from math import comb
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice
from equipoise.weighting.base import Weighting

_EPS = 1e-8


class SoftAdapt(Weighting):
    r"""Weighs losses by a softmax of their slopes: with ``beta > 0`` the fastest growing most.

    From the slopes :math:`s_i` of the last ``order + 1`` values,

    .. math:: w_i = \frac{f_i\, e^{\beta (s_i - \max_j s_j)}}
                         {\sum_j f_j\, e^{\beta (s_j - \max_k s_k)} + 10^{-8}}

    with :math:`f_i = 1`; ``"normalized"`` divides the slopes by their sum first;
    ``"loss_weighted"`` has :math:`f_i` the mean of the stored values. The weights sum to 1.

    A slope has the unit of its loss. Where losses differ in scale, so does the noise of their
    slopes, and the softmax is nearly one-hot on whichever large loss last went up: on handwritten
    digits with wrong weights, ``"original"`` reaches an accuracy of 0.156 where the plain sum has
    0.532. It is for losses of one unit and size. Elsewhere take ``"normalized"`` with
    ``source="paper"``, whose slopes have no unit (0.461 there, of ten seeds).

    Args:
        losses: How many losses there are, or their unique names.
        beta: Inverse temperature of the softmax over rates of change; authors' code: 0.1. Negative:
            the fastest falling loss most.
        variant: ``"original"``, ``"normalized"`` or ``"loss_weighted"``.
        order: Accuracy order of the finite difference, which reads ``order + 1`` values; default
            ``window - 1``, as in the authors' code, or 4, as in their examples.
        window: How many values are kept; default ``order + 1``. All weights are 1 until they are
            there.
        source: ``"code"`` computes what the authors' code does: the slope at the *oldest* value
            read, and the *signed* sum in ``"normalized"``, which reverses the ranking where losses
            fall. ``"paper"`` takes the slope at the newest value and the sum of absolute slopes.
        options: See `Balancer`.

    Raises:
        ValueError: If a choice is unknown, or ``window`` is too short for ``order``.

    Example:
        >>> balancer = SoftAdapt(["falling", "rising"], beta=1.0, order=1)
        >>> balancer.weigh(torch.tensor([2.0, 1.0]))
        tensor([1., 1.])
        >>> balancer.weigh(torch.tensor([1.0, 2.0]))
        tensor([0.1192, 0.8808])

    References:
        Heydari, Thompson, Mehmood 2019, arXiv 1912.12355, equations 4 to 7.

    Differs from the authors' code where that fails: a negative ``beta`` does not overflow, and
    where slopes cancel in ``"normalized"`` the last weights stay.
    """

    history: Tensor
    coefficients: Tensor
    filled: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        beta: float = 0.1,
        variant: Literal["original", "normalized", "loss_weighted"] = "original",
        order: int | None = None,
        window: int | None = None,
        source: Literal["code", "paper"] = "code",
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_choice("variant", variant, ("original", "normalized", "loss_weighted"))
        check_choice("source", source, ("code", "paper"))
        self.order = order if order is not None else 4 if window is None else window - 1
        self.window = self.order + 1 if window is None else window
        if not 1 <= self.order < self.window:
            msg = (
                f"`order` {self.order} reads {self.order + 1} values, `window` is {self.window}; "
                "`order` is at least 1 and `window` at least `order + 1`."
            )
            raise ValueError(msg)
        self.beta = beta
        self.variant = variant
        if variant == "loss_weighted":
            self.defined_for = "nonnegative"
        self.source = source
        self.state("history", torch.zeros(len(self.names), self.window))
        coefficients = torch.tensor(forward_difference(self.order), dtype=torch.float64)
        self.option("coefficients", coefficients, axes=0)
        self.state("filled", torch.zeros(len(self.names)))

    def _weigh(self, values: Tensor) -> Tensor:
        self.history = torch.cat([self.history[:, 1:], values[:, None]], dim=1)
        self.filled = (self.filled + 1).clamp(max=self.window)
        factors = self.history.mean(dim=1).clamp(min=0) if self.variant == "loss_weighted" else None
        weights = self._softmax(self._slopes(), factors)
        ready = (self.filled == self.window).all()
        return torch.where(ready, weights, torch.ones_like(values))

    def _slopes(self) -> Tensor:
        newest = self.history[:, -self.order - 1 :]
        oldest_first = self.source == "code"
        slopes = (newest if oldest_first else -newest.flip(1)) @ self.coefficients
        if self.variant != "normalized":
            return slopes
        ready = (self.filled == self.window).all()
        total = slopes.sum() if self.source == "code" else slopes.abs().sum() + _EPS
        return slopes / torch.where(ready, total, 1.0)

    def _softmax(self, slopes: Tensor, factors: Tensor | None) -> Tensor:
        """The shift by the largest exponent survives; the epsilon is that of a shift by max s."""
        exponents = self.beta * slopes
        shift = exponents.max()
        scores = torch.exp(exponents - shift)
        scores = scores if factors is None else scores * factors
        return scores / (scores.sum() + _EPS * torch.exp(self.beta * slopes.max() - shift))


def forward_difference(order: int) -> list[float]:
    """Coefficients of the first derivative at the first of ``order + 1`` points, unit step.

    Args:
        order: Accuracy order ``n``, at least 1.

    Returns:
        ``c_0 = -H_n`` and ``c_k = (-1)^(k+1) C(n, k) / k``.

    Example:
        >>> forward_difference(2)
        [-1.5, 2.0, -0.5]
    """
    rest = [(-1) ** (k + 1) * comb(order, k) / k for k in range(1, order + 1)]
    return [-sum(rest), *rest]
