"""DeepXDE with the PyTorch backend: a callback that balances the residuals and conditions."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from equipoise.integrations import missing

try:
    from deepxde import backend, config
    from deepxde.callbacks import Callback
except ModuleNotFoundError as error:
    raise missing("deepxde") from error

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from equipoise.balancer import Balancer


class Balance(Callback):
    """Balances the losses of a ``deepxde.Model`` while it trains, with any balancer.

    Pass the same callback to each ``model.train(callbacks=[balance])``: the state is carried over
    from Adam to L-BFGS. Inside one ``step(closure)`` of L-BFGS the weights stand still, so that its
    line search sees one function, and heads get the gradients of that function, weighted ones.
    Leave ``loss_weights`` of ``compile`` out and give the balancer ``priorities``. The losses that
    DeepXDE shows are then unweighted.

    Args:
        balancer: It has as many losses as the model, in DeepXDE's order: the residuals, then the
            conditions as they were passed, then an L1 regularization if there is one.

    Raises:
        ModuleNotFoundError: On import, if DeepXDE is not installed.
        RuntimeError: If DeepXDE runs on another backend than PyTorch.
        TypeError: When training starts, if the optimizer needs a loss (L-BFGS, NNCG) where the
            balancer has none, or needs second derivatives (NNCG).
    """

    def __init__(self, balancer: Balancer) -> None:
        super().__init__()
        if backend.backend_name != "pytorch":
            msg = (
                f"DeepXDE runs on {backend.backend_name}; set the environment variable "
                "DDE_BACKEND=pytorch before it is imported."
            )
            raise RuntimeError(msg)
        self.balancer = balancer

    def on_train_begin(self) -> None:
        """Takes the place of DeepXDE's training step."""
        self._check(self.model.opt_name)
        if self.model.train_step != self._step:  # it still stands there after an interruption
            self._unbalanced = self.model.train_step
        self.model.train_step = self._step

    def on_train_end(self) -> None:
        """Puts it back."""
        self.model.train_step = self._unbalanced

    def _check(self, optimizer: str) -> None:
        if optimizer == "NNCG" or config.mixed:
            msg = "NNCG and mixed precision of DeepXDE cannot be balanced; choose L-BFGS or Adam."
            raise TypeError(msg)
        if isinstance(self.model.opt, torch.optim.LBFGS) and not self.balancer.weighting:
            msg = (
                f"L-BFGS searches along a loss, and {type(self.balancer).__name__} has none: it is "
                "no weighting of the losses. Choose another balancer or optimizer."
            )
            raise TypeError(msg)

    def _step(self, inputs: np.ndarray, targets: np.ndarray, auxiliary: np.ndarray | None) -> None:
        running = self.model.callbacks
        if running is not None and self not in running.callbacks:
            # An interrupted training tells no callback of its end, and the next one is without us.
            self.model.train_step = self._unbalanced
            self._unbalanced(inputs, targets, auxiliary)
            return
        first = True

        def closure() -> Tensor | None:
            nonlocal first
            losses = self.model.outputs_losses_train(inputs, targets, auxiliary)[1]
            self.model.opt.zero_grad()
            with nullcontext() if first else self.balancer.frozen():
                loss = self._backward(losses)
            first = False
            return loss

        self.model.opt.step(closure)
        if self.model.lr_scheduler is not None:
            self.model.lr_scheduler.step()

    def _backward(self, losses: Sequence[Tensor]) -> Tensor | None:
        if not isinstance(self.model.opt, torch.optim.LBFGS):
            self.balancer.backward(losses)
            return None
        # A line search compares values along gradients, so both come from one scalar. `backward`
        # would give heads (a trainable coefficient) plain gradients of losses that are weighted.
        loss = self.balancer(losses)
        loss.backward()
        return loss
