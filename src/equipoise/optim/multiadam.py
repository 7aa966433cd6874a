"""MultiAdam: an Adam for each loss, and a weighted mean of their updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from equipoise.losses import Graphless, LossNames
from equipoise.optim.autobalance import AutoBalance, AutoBalanceBucket
from equipoise.optim.base import Params
from equipoise.optim.hyperparameters import LossWeights, Nonfinite, check_group
from equipoise.parts.told import understands


class MultiAdam(AutoBalance):
    r"""Gives each loss an Adam of its own and moves by the mean of their updates.

    For each parameter :math:`\theta`, with :math:`g_i` the gradient of loss :math:`i`:

    .. math::
        m_i &= \beta_1 m_i + (1 - \beta_1) g_i, \qquad
        v_i = \beta_2 v_i + (1 - \beta_2) g_i^2 \\
        \theta &= \theta - \eta \sum_i c_i \frac{m_i / (1 - \beta_1^{t_i})}
        {\sqrt{v_i / (1 - \beta_2^{t_i})} + \epsilon}

    Each loss moves each parameter by about the learning rate times :math:`c_i`, whatever its scale.
    In a physics-informed network the losses are sorted into groups of like scale, the residuals and
    the boundary conditions for instance: pass the sum of each group as one loss. With one loss this
    is :class:`torch.optim.Adam`. `AutoBalance` is the same with AdamW and the sum of the updates;
    what it says of use, absent losses, several processes and memory holds here.

    Args:
        params: Params, ``(name, parameter)`` pairs, or parameter groups.
        lr: Learning rate :math:`\eta`, a number or a scalar tensor.
        betas: Decay rates of the moments.
        eps: Added to the denominator.
        weight_decay: L2 penalty on the parameters; its gradient is added to that of each loss.
        group_weights: :math:`c_i`, by name or in order; default :math:`1 / T`. In a step that lacks
            a loss, those of the others stay what they are.
        foreach: See `AutoBalance`.
        losses: Names of the losses or how many there are; default what the first step brings.
        nonfinite: See `AutoBalance`.
        graphless: See `AutoBalance`.
        on_device: See `AutoBalance`.
        process_group: See `AutoBalance`.

    Raises:
        ValueError: If a hyperparameter is out of range, or a weight is negative or missing.

    Example:
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = MultiAdam(model.parameters(), lr=1e-2)
        >>> a, b = model(torch.ones(3, 2)).square().mean(dim=0)
        >>> optimizer.backward({"residual": a, "boundary": 1000 * b})
        >>> optimizer.step()

    Source: Yao, Su, Hao, Liu, Su and Zhu, "MultiAdam: Parameter-wise Scale-invariant Optimizer for
    Multiscale Training of Physics-informed Neural Networks", ICML 2023, arXiv 2306.02816, and
    the authors' code in PINNacle, whose names and defaults these are.

    Differs from the authors' code in: losses are not grouped by position (``loss_group_idx``); no
    AMSGrad, no ascent and no second Adam on top of the sum (``agg_momentum``), all of which are off
    there; a parameter that some losses do not reach gets zero from these, where the code
    ends in an error; each parameter group is updated with its own gradients.
    """

    _weighed_by: ClassVar[str] = "group_weights"

    @understands
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.99, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        group_weights: LossWeights | None = None,
        foreach: bool | None = None,
        losses: LossNames | None = None,
        nonfinite: Nonfinite = "skip",
        graphless: Graphless = "absent",
        on_device: bool | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            weights=group_weights,
            foreach=foreach,
            losses=losses,
            nonfinite=nonfinite,
            graphless=graphless,
            on_device=on_device,
            process_group=process_group,
        )

    def _bucket(self) -> Callable[..., AutoBalanceBucket]:
        return MultiAdamBucket

    def _check_group(self, group: dict[str, Any]) -> None:
        check_group(group, (0.99, 0.99))

    def _default_weight(self, count: int) -> float:
        return 1 / count


class MultiAdamBucket(AutoBalanceBucket):
    """A bucket of MultiAdam: weight decay is part of each gradient, and shrinks nothing."""

    def absorb(self, loss: int, balanced: Tensor | None, keep: Tensor | None) -> None:
        """``m_i`` and ``v_i`` take in ``g_i + lambda p``."""
        decay = self.group["weight_decay"]
        if decay:
            penalty = torch.mul(self._flat_parameters(), decay)
            balanced = penalty if balanced is None else balanced + penalty
        super().absorb(loss, balanced, keep)

    def _shrink(self, count: float | Tensor) -> None:
        """Nothing: the gradients hold it."""

    def _flat_parameters(self) -> Tensor:
        parameters = self.gather(self._reals)
        return torch.zeros_like(self._exp_avgs[0]) if parameters is None else parameters
