"""MinMax: weights that ascend while the model descends (Liu & Wang 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice
from equipoise.parts.weight_optimizer import Rule, WeightOptimizer, descend_where
from equipoise.weighting.base import Weighting


class MinMax(Weighting):
    r"""Raises the weights of the largest losses by gradient ascent: a saddle point is sought.

    One ascent step on

    .. math:: \sum_i T\, \mathrm{softmax}(v)_i\, L_i

    with respect to ``v``, which starts at ones; ``w = v``.

    Args:
        losses: How many losses there are, or their unique names.
        lr: Learning rate of ``v``; ConFIG's code: 1e-3.
        optimizer: What ascends on ``v``: ``"adam"`` (ConFIG's code) or ``"sgd"``.
        applied: ``"raw"`` weighs the losses with ``v`` itself, as that code does: such weights have
            no fixed sum and may turn negative. ``"softmax"`` weighs with ``T softmax(v)``, which is
            what the ascent optimises.
        options: See `Balancer`.

    Raises:
        ValueError: If ``lr`` is not positive, or ``optimizer`` or ``applied`` unknown.

    Example:
        >>> balancer = MinMax(["large", "small"], lr=0.5, optimizer="sgd")
        >>> balancer.weigh(torch.tensor([3.0, 1.0]))
        tensor([1., 1.])
        >>> balancer.weigh(torch.tensor([3.0, 1.0]))
        tensor([1.5000, 0.5000])

    References:
        Liu, Wang 2021, A dual-dimer method for training physics-constrained neural networks with
        minimax architecture, arXiv 2005.00615; the parametrisation is that of the code published
        with Liu, Chu, Thuerey 2024, arXiv 2408.11104 (ConFIG).

    Differs from the paper, which ascends on the weights themselves and finds the saddle point with
    second-order information. As in the code, the first step leaves all weights at 1.
    """

    logits: Tensor
    met: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        lr: float = 1e-3,
        optimizer: Rule = "adam",
        applied: Literal["raw", "softmax"] = "raw",
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_choice("applied", applied, ("raw", "softmax"))
        self.applied = applied
        self.optimizer = WeightOptimizer(self, optimizer, lr)
        self.state("logits", torch.ones(len(self.names)))
        self.state("met", torch.zeros(len(self.names), dtype=torch.bool))

    def _weigh(self, values: Tensor) -> Tensor:
        shares = self.logits.softmax(dim=0)
        ascent = len(values) * shares * (values - shares @ values)
        self.logits = descend_where(self.optimizer, self, self.logits, -ascent, self.met)
        self.met = torch.ones_like(self.met)
        if self.applied == "raw":
            return self.logits
        return len(values) * self.logits.softmax(dim=0)
