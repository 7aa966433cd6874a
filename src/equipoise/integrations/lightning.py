"""Lightning: a module whose losses are balanced, in automatic optimization."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from equipoise.integrations import missing
from equipoise.integrations.balanced_loss import LossScale, plain_sum
from equipoise.integrations.multi_term_loss import behind, multi_term_loss

try:
    from lightning.pytorch import LightningModule
except ModuleNotFoundError as error:
    raise missing("lightning") from error

if TYPE_CHECKING:
    from torch import Tensor

    from equipoise.balancer import Balancer
    from equipoise.losses import Losses
    from equipoise.optim.base import MultiTermOptimizer


class BalancedModule(LightningModule):
    """A ``LightningModule`` that takes any balancer, in automatic optimization.

    ``return self.balance(losses, batch_idx)`` from ``training_step``. Precision, clipping,
    accumulation, schedulers, strategies and callbacks stay Lightning's own. The balancer is part of
    the module, so it is saved in checkpoints, and ``Trainer.fit(ckpt_path=...)`` goes on bit for
    bit. What `Record.report` tells is logged at every ``log_every_n_steps``-th step.

    With ``accumulate_grad_batches`` the weights are learned from the first batch of each
    accumulation and hold for the others.

    With `MTAdam` or `AutoBalance` there is no balancer: give none, and return the optimizer from
    ``configure_optimizers``. In fp16 Lightning's own scaler is used.

    Three recipes need no such class. A method that is a weighting of the losses also works as
    ``return self.balancer(losses)`` in any module; one that looks at gradients then takes one more
    backward pass, and measures fp16 gradients without a loss scale. In manual optimization every
    method works as ``self.balancer.backward(losses, backward=self.manual_backward)``, and `MTAdam`
    as ``optimizer = self.optimizers()``, ``optimizer.zero_grad()``, ``optimizer.backward(losses)``,
    ``optimizer.step()``.

    Args:
        balancer: The balancer; ``None`` where a multi-term optimizer takes its place.

    Raises:
        ModuleNotFoundError: On import, if Lightning is not installed.

    Example:
        >>> import torch
        >>> from equipoise import GradNorm
        >>> class Network(BalancedModule):
        ...     def __init__(self):
        ...         super().__init__(GradNorm(["near", "far"]))
        ...         self.layer = torch.nn.Linear(3, 2)
        ...
        ...     def training_step(self, batch, batch_idx):
        ...         near, far = self.layer(batch).square().mean(dim=0)
        ...         return self.balance({"near": near, "far": far}, batch_idx)
        ...
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
    """

    balancer: Balancer

    def __init__(self, balancer: Balancer | None = None) -> None:
        super().__init__()
        self._balances = balancer is not None
        if balancer is not None:
            self.balancer = balancer
        self._waiting: tuple[Losses, Tensor, bool] | None = None

    def balance(self, losses: Losses, batch_idx: int = 0) -> Tensor:
        """The loss to return from ``training_step``; going backward balances.

        Args:
            losses: The losses of this batch.
            batch_idx: As given to ``training_step``; it tells the first batch of an accumulation.

        Returns:
            The plain sum of the losses, which is what a progress bar and early stopping see.

        Raises:
            TypeError: If there is no balancer and the optimizer is no multi-term optimizer.
        """
        if not self._balances:
            return self._taken_apart(losses, batch_idx)
        total = plain_sum(self.balancer, losses)
        learns = batch_idx % self.trainer.accumulate_grad_batches == 0
        self._waiting = (losses, total, learns)
        return total

    def backward(self, loss: Tensor, *args: object, **kwargs: object) -> None:
        """Lightning's hook in place of ``loss.backward()``.

        Args:
            loss: What `balance` returned, times the loss scale, over the number of batches that
                accumulate.
            args: As Lightning passes them.
            kwargs: As Lightning passes them.
        """
        if self._waiting is None:
            super().backward(loss, *args, **kwargs)
            return
        (losses, total, learns), self._waiting = self._waiting, None
        (factor,) = torch.autograd.grad(loss, total, retain_graph=True)
        with nullcontext() if learns else self.balancer.frozen():
            self.balancer.backward(losses, scaler=LossScale(factor))

    def on_after_backward(self) -> None:
        """Logs the report of the balancer, or of the optimizer in its place."""
        if self._logs_now():
            source = self.balancer if self._balances else self._multi_term()
            if source.last is not None:
                self.log_dict(source.report())

    def _taken_apart(self, losses: Losses, batch_idx: int) -> Tensor:
        """The loss whose backward pass is that of the optimizer."""
        ends = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        return multi_term_loss(
            self._multi_term(),
            losses,
            last=ends or self.trainer.is_last_batch,
            scaler=getattr(self.trainer.precision_plugin, "scaler", None),
        )

    def _multi_term(self) -> MultiTermOptimizer[Any]:
        return behind(self.trainer.optimizers[0])

    def _logs_now(self) -> bool:
        return bool((self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0)
