"""SelfAdaptive: weights of points that ascend while the model descends (SA-PINN)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from equipoise.parts.checks import check_choice
from equipoise.parts.weight_optimizer import Rule, WeightOptimizer
from equipoise.pointwise.base import Pointwise, Rows


class SelfAdaptive(Pointwise):
    r"""Self-adaptive weights: gradient ascent on the loss, for each point's own number.

    .. math:: L = \frac{1}{N} \sum_i m(\lambda_i)\, r_i^2

    The model's gradient has :math:`\lambda` fixed; then :math:`\lambda` takes one step upwards,
    along :math:`m'(\lambda_i)\, r_i^2 / N`, with an optimizer of its own.

    Args:
        points: How many points there are.
        lr: Learning rate of the weights, positive; 0.005 as in the authors' code.
        optimizer: What ascends: ``"adam"`` (the authors' code) or ``"sgd"`` (the paper's formula).
            Adam's moments and step counts belong to each point and rest with it.
        mask: ``m``: ``"square"``, :math:`\lambda^2` (the authors' code), or ``"sigmoid"``.
        initial: ``lambda`` at the start: a number, or ``[points]``. The authors draw it uniformly,
            from [0, 1] for residuals and from [0, 100] for initial conditions.

    Raises:
        ValueError: If an argument is out of range, unknown, or of another length.

    Example:
        >>> adaptive = SelfAdaptive(2, lr=0.5, optimizer="sgd")
        >>> adaptive(torch.tensor([2.0, 0.0], requires_grad=True)).item()
        2.0
        >>> adaptive.weights  # the point with a residual has gone from 1 to (1 + 0.5 * 4)^2
        tensor([9., 1.])

    References:
        McClenny, Braga-Neto 2023, Self-adaptive physics-informed neural networks using a soft
        attention mechanism, arXiv 2009.04544.

    Differs from the authors' code, whose Adam has ``beta_1 = 0.99``; here it is 0.9, PyTorch's
    default.
    """

    scores: Tensor

    def __init__(
        self,
        points: int,
        *,
        lr: float = 0.005,
        optimizer: Rule = "adam",
        mask: Literal["square", "sigmoid"] = "square",
        initial: float | Tensor = 1.0,
    ) -> None:
        super().__init__(points)
        check_choice("mask", mask, ("square", "sigmoid"))
        self.mask = mask
        self._declare("scores", _start(initial, points))
        self.optimizer = WeightOptimizer(self, optimizer, lr, count=points)

    def _learned(self, rows: Rows, residuals: Tensor) -> Rows:
        scores = rows["scores"]
        slope = 2 * scores if self.mask == "square" else _sigmoid_slope(scores)
        gradient = slope * residuals.square() / len(residuals)
        ascended = self.optimizer.descend(_Held(rows), scores, -gradient)
        return {**rows, "scores": ascended}

    def _weights(self, before: Rows, after: Rows) -> Tensor:
        scores = before["scores"]
        return scores.square() if self.mask == "square" else scores.sigmoid()


class _Held:
    """The optimizer's state of a mini-batch of points, under the names of the whole."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def get_buffer(self, target: str) -> Tensor:
        """The part of a buffer that belongs to these points."""
        return self._rows[target]


def _sigmoid_slope(scores: Tensor) -> Tensor:
    passed = scores.sigmoid()
    return passed * (1 - passed)


def _start(initial: float | Tensor, points: int) -> Tensor:
    given = torch.as_tensor(initial, dtype=torch.float64).detach().cpu().flatten()
    if len(given) not in (1, points):
        msg = f"`initial` has {len(given)} entries for {points} points; give a number or {points}."
        raise ValueError(msg)
    if not given.isfinite().all():
        msg = "`initial` is not finite everywhere; each point needs a number to start from."
        raise ValueError(msg)
    return given.expand(points).clone()
