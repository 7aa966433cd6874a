"""ExcessMTL: weights follow how far each loss is from its own optimum (He et al. 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice, check_not_negative, check_positive
from equipoise.parts.reduction import Reduction


class ExcessMTL(Aggregation):
    r"""Raises the weight of the losses whose excess risk fell least, by exponentiated gradient.

    The excess risk is estimated with the diagonal Hessian of Adagrad, and its baseline
    :math:`E_t^{(0)}` is the mean over the warm-up steps:

    .. math:: S_t \leftarrow S_t + g_t^2, \qquad
        E_t = \sum_p \frac{g_{tp}^2}{\sqrt{S_{tp} + \epsilon_h}}, \qquad
        w_t \propto w_t \exp\big( \eta\, E_t / (E_t^{(0)} + \epsilon) \big)

    Args:
        losses: How many losses there are, or their unique names.
        robust_step_size: :math:`\eta`, the step size of the weights; LibMTL, which the authors use:
            0.01. TorchJD: 1.
        n_warmup_steps: How many first steps leave the weights as they are and make the baseline;
            authors' code: 1. The paper warms up for some epochs. With 0 the first step moves the
            weights by the excess risk itself, as in TorchJD's default.
        reduction: ``"sum"`` has weights that sum to ``T`` (authors), ``"mean"`` to 1 (TorchJD).
        eps_h: :math:`\epsilon_h`, added to the summed squares under the root; authors: 1e-7.
        eps_baseline: :math:`\epsilon`, added to the baseline before a division by it; authors 0,
            TorchJD 1e-7.
        options: See `Aggregation`.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> from equipoise import Gradients
        >>> balancer = ExcessMTL(["a", "b"], robust_step_size=1.0)
        >>> balancer.weigh(torch.ones(2), Gradients(torch.tensor([[1.0], [1.0]])))
        tensor([1., 1.])
        >>> balancer.weigh(torch.ones(2), Gradients(torch.tensor([[0.0], [1.0]])))
        tensor([0.6605, 1.3395])

    References:
        He, Zhou, Zhang, Yun, Xu, Zeng, Chilimbi, Zhao 2024, arXiv 2402.02009, Algorithm 1.

    Differs from the authors' code in that the update is made with logarithms of the weights, so
    that a large excess risk saturates them instead of overflowing, and in that a loss whose
    baseline is zero has ratio 0 instead of NaN for ever.
    """

    looks_at: LooksAt = "gradients"

    squares: Tensor
    baseline: Tensor
    steps: Tensor
    log_weights: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        robust_step_size: float = 0.01,
        n_warmup_steps: int = 1,
        reduction: Reduction = "sum",
        eps_h: float = 1e-7,
        eps_baseline: float = 1e-7,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_positive(robust_step_size=robust_step_size, eps_h=eps_h)
        check_not_negative(n_warmup_steps=n_warmup_steps, eps_baseline=eps_baseline)
        self.robust_step_size = robust_step_size
        self.n_warmup_steps = n_warmup_steps
        check_choice("reduction", reduction, ("sum", "mean"))
        self.reduction = reduction
        self.eps_h = eps_h
        self.eps_baseline = eps_baseline
        count = len(self.names)
        self.state("squares", torch.zeros(count, 0))
        self.state("baseline", torch.zeros(count))
        self.state("steps", torch.zeros(count))
        self.state("log_weights", torch.full((count,), -math.log(count), dtype=torch.float64))

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        self.steps = self.steps + 1
        ratios = self._ratios(self._excess(gradients))
        raised = self.log_weights + self.robust_step_size * ratios
        # What the losses that are there weigh together is theirs to share, not to enlarge.
        self.log_weights = raised.log_softmax(dim=0) + self.log_weights.logsumexp(dim=0)
        weights = self.log_weights.softmax(dim=0).to(values.dtype)
        return weights * len(weights) if self.reduction == "sum" else weights

    def _excess(self, gradients: Gradients) -> Tensor:
        """``E``, ``[T]``; adds the squares of this step first."""
        excess = torch.zeros_like(self.baseline)
        for rows, squares in gradients.blocks(self._sized("squares", gradients)):
            added = rows.to(squares.dtype).square()
            squares.add_(added)
            excess += (added / (squares + self.eps_h).sqrt()).sum(dim=1)
        return excess

    def _ratios(self, excess: Tensor) -> Tensor:
        """``E / E_0``, zero while the baseline is being made."""
        making = self.steps <= max(self.n_warmup_steps, 1)
        mean = self.baseline + (excess - self.baseline) / self.steps
        self.baseline = torch.where(making, mean, self.baseline)
        divisors = self.baseline + self.eps_baseline
        ratios = torch.where(divisors > 0, excess / divisors, 0.0)
        ratios = torch.where(self.steps <= self.n_warmup_steps, 0.0, ratios)
        first = (self.steps == 1) & (self.n_warmup_steps == 0)
        return torch.where(first, excess, ratios)
