"""Lightning: a module whose losses are balanced, in automatic optimization."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from equipoise.integrations import missing
from equipoise.integrations.balanced_loss import LossScale, plain_sum

try:
    from lightning.pytorch import LightningModule
except ModuleNotFoundError as error:
    raise missing("lightning") from error

if TYPE_CHECKING:
    from torch import Tensor

    from equipoise.balancer import Balancer
    from equipoise.losses import Losses


class BalancedModule(LightningModule):
    """A ``LightningModule`` that takes any balancer, in automatic optimization.

    ``return self.balance(losses, batch_idx)`` from ``training_step``. Precision, clipping,
    accumulation, schedulers, strategies and callbacks stay Lightning's own. The balancer is part of
    the module, so it is saved in checkpoints, and ``Trainer.fit(ckpt_path=...)`` goes on bit for
    bit. What `Record.report` tells is logged at every ``log_every_n_steps``-th step.

    With ``accumulate_grad_batches`` the weights are learned from the first batch of each
    accumulation and hold for the others.

    Two recipes need no such class. A method that is a weighting of the losses also works as
    ``return self.balancer(losses)`` in any module; one that looks at gradients then takes one more
    backward pass, and measures fp16 gradients without a loss scale. In manual optimization every
    method works as ``self.balancer.backward(losses, backward=self.manual_backward)``.

    Args:
        balancer: The balancer.

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

    def __init__(self, balancer: Balancer) -> None:
        super().__init__()
        self.balancer = balancer
        self._waiting: tuple[Losses, Tensor, bool] | None = None

    def balance(self, losses: Losses, batch_idx: int = 0) -> Tensor:
        """The loss to return from ``training_step``; going backward balances.

        Args:
            losses: The losses of this batch.
            batch_idx: As given to ``training_step``; it tells the first batch of an accumulation.

        Returns:
            The plain sum of the losses, which is what a progress bar and early stopping see.
        """
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
        """Logs the balancer's report."""
        if self.balancer.last is not None and self._logs_now():
            self.log_dict(self.balancer.report())

    def _logs_now(self) -> bool:
        return bool((self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0)
