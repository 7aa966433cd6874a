"""AutoBalance: an AdamW for each loss, and the sum of their updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from equipoise.losses import Graphless, LossNames
from equipoise.optim.base import MultiTermOptimizer, Params
from equipoise.optim.bucket import Bucket, ParameterState, bias_correction
from equipoise.optim.hyperparameters import (
    AutoBalanceGroup,
    LossWeights,
    Nonfinite,
    check_group,
    weight_of_each,
)
from equipoise.optim.step import Arrange, Decisions, Step
from equipoise.parts.told import understands


class AutoBalance(MultiTermOptimizer["AutoBalanceBucket"]):
    r"""Gives each loss an AdamW of its own and moves by the sum of their updates.

    For each parameter :math:`\theta`, with :math:`g_i` the gradient of loss :math:`i`:

    .. math::
        m_i &= \beta_1 m_i + (1 - \beta_1) g_i, \qquad
        v_i = \beta_2 v_i + (1 - \beta_2) g_i^2 \\
        \theta &= \theta - \eta \sum_i \Big( \lambda \theta + \frac{m_i / (1 - \beta_1^{t_i})}
        {\sqrt{v_i / (1 - \beta_2^{t_i})} + \epsilon} \Big)

    The losses are combined after each has been preconditioned by its own second moment, so
    neither their scales nor their curvatures mix. With one loss this is
    :class:`torch.optim.AdamW`.

    Call :meth:`backward` in place of ``loss.backward()``, then :meth:`step`. Schedulers,
    ``GradScaler``, parameter groups, hooks and state dictionaries work as for AdamW. After
    ``backward``, ``.grad`` is the sum of the gradients, for monitoring. The moments have by then
    taken in each gradient as it was, so clipping ``.grad`` changes nothing; a parameter whose
    ``.grad`` was set to ``None`` does not move.

    A loss that a batch does not have (absent from a mapping, or ``None``) rests, as an AdamW that
    is not stepped: no update, no decay, its counter :math:`t_i` stays. Where a loss does not reach
    a parameter that another loss of the step reaches, its gradient there is zero; a parameter that
    no loss reaches rests. A step with a loss that is NaN or infinite is skipped whole and counted
    in :attr:`skipped`; a finite loss whose gradient is not finite rests in that step and is counted
    in :attr:`rested`.

    Data-parallel training, with or without ``DistributedDataParallel``: the gradient of each loss
    is averaged over the processes, so a step sends ``T`` gradients instead of one. A loss that one
    process lacks counts as zero there.

    FSDP2: parameters that ``fully_shard`` has cut are taken as they are, and so is the state, which
    ``torch.distributed.checkpoint`` saves and loads on another number of processes; for that build
    the optimizer with ``losses``. Each loss goes backward through FSDP's hooks, so all processes
    must have the same losses; one number a parameter and loss is sent to make whole norms.

    Memory: ``2 T`` tensors of state per parameter; in ``backward`` one gradient is alive at a time
    beside the sum in ``.grad``. With a ``GradScaler`` or :meth:`accumulate` it holds one gradient
    per loss until the step.

    Args:
        params: Params, ``(name, parameter)`` pairs, or parameter groups.
        lr: Learning rate :math:`\eta`, a number or a scalar tensor.
        betas: Decay rates of the moments.
        eps: Added to the denominator.
        weight_decay: :math:`\lambda`, by which parameters shrink, times ``lr``; it enters once with
            the update of each loss of the step, so ``T`` times in a step that has them all.
        weights: What the update of each loss is multiplied with, decay included: a mapping by name
            or numbers in order; default ones.
        foreach: Whether parameters below 65536 elements share memory, so that a step handles many
            of them at once; default yes, except for tensor subclasses and complex parameters.
        losses: Names of the losses or how many there are; default what the first step brings.
        nonfinite: ``"skip"``, or ``"raise"`` a ``ValueError`` that names the loss.
        graphless: What a loss that is a number, or has no graph in this step, becomes: ``"absent"``
            with one warning, or with ``"raise"`` an error that names it.
        on_device: Take every decision on the device, without waiting for it; default no on the
            CPU, yes elsewhere.
        process_group: The processes over which losses and gradients are averaged in data-parallel
            training; ``None`` is the default group, if ``torch.distributed`` is on.

    Raises:
        ValueError: If a hyperparameter is out of range, or a weight is negative.

    Example:
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = AutoBalance(model.parameters(), lr=1e-2)
        >>> a, b = model(torch.ones(3, 2)).square().mean(dim=0)
        >>> optimizer.backward({"a": a, "b": 1000 * b})
        >>> optimizer.step()

    Source: An, Si, Yan and Ma, "AutoBalance: An Automatic Balancing Framework for Training
    Physics-Informed Neural Networks", 2025, arXiv 2510.06684, with AdamW as the optimizer of each
    loss and plain summation. Defaults are those of :class:`torch.optim.AdamW`.

    Differs from the paper in: nothing known. What it leaves open (weight decay, an absent loss) is
    decided as ``T`` separate AdamW optimizers would. No code of the authors was found.
    """

    _state_names: ClassVar[frozenset[str]] = frozenset({"exp_avgs", "exp_avg_sqs"})
    _weighed_by: ClassVar[str] = "weights"
    """What the argument for the weights is called."""

    @understands
    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        weights: LossWeights | None = None,
        foreach: bool | None = None,
        losses: LossNames | None = None,
        nonfinite: Nonfinite = "skip",
        graphless: Graphless = "absent",
        on_device: bool | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        self._loss_weights = weights
        super().__init__(
            params,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay},
            packed=foreach is not False,
            losses=losses,
            nonfinite=nonfinite,
            graphless=graphless,
            on_device=on_device,
            process_group=process_group,
        )

    def _bucket(self) -> Callable[..., AutoBalanceBucket]:
        return AutoBalanceBucket

    def _check_group(self, group: dict[str, Any]) -> None:
        check_group(group, (0.9, 0.999))

    def _start(
        self, reached: set[Tensor], parameters: list[Tensor], decisions: Decisions
    ) -> Step[AutoBalanceBucket]:
        weights = self._weight_of_each(self.names or ())
        return SeparateStep(self._buckets(reached), self._buckets, parameters, decisions, weights)

    def _fix_names(self, names: tuple[str, ...]) -> None:
        self._weight_of_each(names)
        super()._fix_names(names)

    def _begin(self) -> None:
        self._checked_weights: tuple[tuple[str, ...], list[float]] | None = None
        super()._begin()

    def _weight_of_each(self, names: tuple[str, ...]) -> list[float]:
        if self._checked_weights is None or self._checked_weights[0] != names:
            default = self._default_weight(len(names))
            given = weight_of_each(self._loss_weights, names, self._weighed_by, default)
            self._checked_weights = names, given
        return self._checked_weights[1]

    def _default_weight(self, count: int) -> float:
        """That of each of so many losses, where none was given."""
        return 1.0

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_loss_weights": self._loss_weights}


class AutoBalanceBucket(Bucket[AutoBalanceGroup]):
    """A bucket of AutoBalance.

    The state of a parameter: ``step``, ``[T]``; ``exp_avgs`` and ``exp_avg_sqs``, one tensor of the
    parameter's shape for each loss. A complex parameter is seen as real numbers, with a last
    dimension of 2.
    """

    def _make_state(self, count: int) -> list[ParameterState]:
        self._steps = torch.zeros(count, dtype=torch.float32, device=self._counter)
        self._exp_avgs = self._zeros(count)
        self._exp_avg_sqs = self._zeros(count)
        moments = zip(self._shown(self._exp_avgs), self._shown(self._exp_avg_sqs), strict=True)
        return [{"step": self._steps, "exp_avgs": m, "exp_avg_sqs": v} for m, v in moments]

    def absorb(self, loss: int, balanced: Tensor | None, keep: Tensor | None) -> None:
        """``m_i = beta1 m_i + (1 - beta1) g_i``, ``v_i = beta2 v_i + (1 - beta2) g_i^2``."""
        beta1, beta2 = self.group["betas"]
        first, second = self._exp_avgs[loss], self._exp_avg_sqs[loss]
        gradient = torch.zeros_like(first) if balanced is None else balanced
        if keep is None:
            self._steps[loss] += 1
            first.lerp_(gradient, 1 - beta1)
            second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        else:
            self._steps[loss] += keep.to(self._steps.device)
            first.lerp_(gradient, self._if(keep, 1 - beta1))
            second.lerp_(gradient.square(), self._if(keep, 1 - beta2))

    def move(self, taken: Sequence[tuple[int, Tensor | None]], weights: Sequence[float]) -> None:
        """Moves by the weighted sum of the updates of the losses that were folded in.

        Args:
            taken: Each loss, with a boolean scalar that tells whether it was; ``None`` is yes.
            weights: That of each loss of the optimizer.
        """
        if self.group["weight_decay"]:
            there = ((keep, weights[loss]) for loss, keep in taken)
            self._shrink(sum(c if keep is None else self._if(keep, c) for keep, c in there))
        for loss, keep in taken:
            if keep is None and self._steps.device.type == "cpu":
                self._descend(loss, weights[loss])
            else:
                self._descend_if(loss, keep, weights[loss])

    def _shrink(self, count: float | Tensor) -> None:
        """``p = (1 - k lr lambda) p``, with ``k`` the summed weights of the losses."""
        rate = self.group["lr"] * self.group["weight_decay"]
        for real in self._reals:
            real.mul_(1 - rate * count)

    def _descend(self, loss: int, weight: float) -> None:
        """``p -= c lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)``."""
        (beta1, beta2), count = self.group["betas"], self._steps[loss].item()
        size = weight * float(self.group["lr"]) / (1 - beta1**count)
        root = self._exp_avg_sqs[loss].sqrt().div_((1 - beta2**count) ** 0.5)
        self._move(self._exp_avgs[loss], root.add_(self.group["eps"]), -size)

    def _descend_if(self, loss: int, keep: Tensor | None, weight: float) -> None:
        """The same without reading the counter; where ``keep`` is false nothing moves."""
        (beta1, beta2), count = self.group["betas"], self._steps[loss].to(self._wide)
        size = weight * self.group["lr"] / bias_correction(beta1, count)
        size = size if keep is None else size * keep.to(count)
        root = self._exp_avg_sqs[loss].sqrt().div_(bias_correction(beta2, count).sqrt())
        # Divided by a size of zero the denominator is infinite, and the update zero.
        self._move(self._exp_avgs[loss], root.add_(self.group["eps"]).div_(-size), 1.0)


class SeparateStep(Step[AutoBalanceBucket]):
    """A step of AutoBalance: the gradient of each loss is folded in as it is.

    Args:
        buckets: See `Step`.
        arrange: See `Step`.
        parameters: See `Step`.
        decisions: See `Step`.
        weights: What the update of each loss is multiplied with.
    """

    def __init__(
        self,
        buckets: list[AutoBalanceBucket],
        arrange: Arrange[AutoBalanceBucket],
        parameters: Sequence[Tensor],
        decisions: Decisions,
        weights: Sequence[float],
    ) -> None:
        super().__init__(buckets, arrange, parameters, decisions)
        self.weights = weights

    def rest(self, loss: int) -> None:
        """An AdamW that is not stepped keeps its state."""

    def _scales(self, loss: int, norms: Tensor, keep: Tensor | None) -> None:
        return None

    def _move(self, bucket: AutoBalanceBucket) -> None:
        bucket.move(self.taken, self.weights)
