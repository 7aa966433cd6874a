"""DeepXDE with the PyTorch backend: a callback that balances the residuals and conditions."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import torch

from equipoise.integrations import missing
from equipoise.learner import Learner
from equipoise.optim.base import MultiTermOptimizer
from equipoise.weighting.first_value import FirstValue

try:
    from deepxde import backend, config
    from deepxde.callbacks import Callback
except ModuleNotFoundError as error:
    raise missing("deepxde") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    import deepxde as dde
    import numpy as np
    from torch import Tensor

    from equipoise.balancer import Balancer

    Batch: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray | None]
    """What `outputs_losses_train` takes: inputs, targets, auxiliary variables."""


class Balance(Callback):
    """Balances the losses of a ``deepxde.Model`` while it trains, with any balancer or `MTAdam`.

    Pass the same callback to each ``model.train(callbacks=[balance])``: the state is carried over
    from Adam to L-BFGS. Inside one ``step(closure)`` of L-BFGS the weights stand still, so that its
    line search sees one function, and heads get the gradients of that function, weighted ones.
    Leave ``loss_weights`` of ``compile`` out and give the balancer ``priorities``. The losses that
    DeepXDE shows are then unweighted. With ``loss_weights`` a method sees losses that are
    multiplied already, which comes to the same unless it divides them by their first values.

    `MTAdam` and `AutoBalance` are the optimizer as well, so both get it, and it gets all that is to
    be trained, as every optimizer does that is not built by DeepXDE::

        optimizer = eq.MTAdam([*net.parameters(), coefficient], lr=1e-3, ranks=[1, 10, 10])
        model.compile(optimizer, external_trainable_variables=coefficient)
        model.train(iterations=10000, callbacks=[Balance(optimizer)])

    ``decay`` of ``compile`` schedules its learning rate; its state is saved by ``model.save`` and
    loaded by ``model.restore``. That of a balancer is saved by whoever saves the model.

    Args:
        balancer: It has as many losses as the model, in DeepXDE's order: the residuals, then the
            conditions as they were passed, then an L1 regularization if there is one. Or the
            `MTAdam` or `AutoBalance` that was given to ``compile``.

    Raises:
        ModuleNotFoundError: On import, if DeepXDE is not installed.
        RuntimeError: If DeepXDE runs on another backend than PyTorch.
        TypeError: When training starts, if the optimizer needs a loss (L-BFGS, NNCG) where the
            balancer has none, or needs second derivatives (NNCG); or if `MTAdam` or `AutoBalance`
            stands in one of the two places only.
        ValueError: When training starts, if `MTAdam` or `AutoBalance` lacks a parameter that is to
            be trained; or if it, or a balancer that divides losses by their first values, meets
            ``loss_weights``, which it would cancel.
    """

    def __init__(self, balancer: Balancer | MultiTermOptimizer[Any]) -> None:
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
        self._check()
        if self.model.train_step != self._step:  # it still stands there after an interruption
            self._unbalanced = self.model.train_step
        self.model.train_step = self._step

    def on_train_end(self) -> None:
        """Puts it back."""
        self.model.train_step = self._unbalanced

    def _check(self) -> None:
        if self.model.opt_name == "NNCG" or config.mixed:
            msg = "NNCG and mixed precision of DeepXDE cannot be balanced; choose L-BFGS or Adam."
            raise TypeError(msg)
        if isinstance(self.balancer, MultiTermOptimizer):
            _check_optimizer(self.balancer, self.model)
        else:
            _check_balancer(self.balancer, self.model.opt)
            _check_loss_weights(self.balancer, self.model.loss_weights)

    def _step(self, inputs: np.ndarray, targets: np.ndarray, auxiliary: np.ndarray | None) -> None:
        running = self.model.callbacks
        if running is not None and self not in running.callbacks:
            # An interrupted training tells no callback of its end, and the next one is without us.
            self.model.train_step = self._unbalanced
            self._unbalanced(inputs, targets, auxiliary)
            return
        batch = (inputs, targets, auxiliary)
        if isinstance(self.balancer, MultiTermOptimizer):
            self.balancer.step(partial(self._losses, batch))
        else:
            self.model.opt.step(self._closure(batch, self.balancer))
        if self.model.lr_scheduler is not None:
            self.model.lr_scheduler.step()

    def _losses(self, batch: Batch) -> Tensor:
        losses: Tensor = self.model.outputs_losses_train(*batch)[1]
        return losses

    def _closure(self, batch: Batch, balancer: Balancer) -> Callable[[], Tensor | None]:
        first = True

        def closure() -> Tensor | None:
            nonlocal first
            losses = self._losses(batch)
            self.model.opt.zero_grad()
            with nullcontext() if first else balancer.frozen():
                loss = self._backward(losses, balancer)
            first = False
            return loss

        return closure

    def _backward(self, losses: Tensor, balancer: Balancer) -> Tensor | None:
        if not isinstance(self.model.opt, torch.optim.LBFGS):
            balancer.backward(losses)
            return None
        # A line search compares values along gradients, so both come from one scalar. `backward`
        # would give heads (a trainable coefficient) plain gradients of losses that are weighted.
        loss = balancer(losses)
        loss.backward()
        return loss


def _check_balancer(balancer: Balancer, optimizer: torch.optim.Optimizer) -> None:
    if isinstance(optimizer, MultiTermOptimizer):
        name = type(optimizer).__name__
        msg = (
            f"{name} balances the losses itself; write `Balance(optimizer)` with the {name} that "
            f"`compile` was given, or give `compile` another optimizer."
        )
        raise TypeError(msg)
    if isinstance(optimizer, torch.optim.LBFGS) and not balancer.weighting:
        msg = (
            f"L-BFGS searches along a loss, and {type(balancer).__name__} has none: it is "
            "no weighting of the losses. Choose another balancer or optimizer."
        )
        raise TypeError(msg)


def _check_loss_weights(balancer: Balancer, loss_weights: Sequence[float] | None) -> None:
    """Refuses what `FirstValue` and ``scale="first_value"`` divide out, with the first values."""
    parts = [part for part in balancer.modules() if isinstance(part, Learner)]
    if loss_weights is not None and any(p.scaling or isinstance(p, FirstValue) for p in parts):
        msg = (
            f"`loss_weights` is {loss_weights}, and {type(balancer).__name__} divides the losses "
            "by their first values, these weights with them; leave it out, and give the balancer "
            "`priorities`."
        )
        raise ValueError(msg)


def _check_optimizer(optimizer: MultiTermOptimizer[Any], model: dde.Model) -> None:
    name = type(optimizer).__name__
    if model.opt is not optimizer:
        msg = (
            f"`compile` was given {model.opt_name!r}, `Balance` an {name}, which is an optimizer "
            "itself; write `model.compile(optimizer)` with that one."
        )
        raise TypeError(msg)
    if model.loss_weights is not None:
        msg = (
            f"`loss_weights` is {model.loss_weights}, and {name} moves by every loss alike, "
            "whatever its scale; leave it out. `eq.MTAdam(..., ranks=[...])` says how much each "
            "loss counts."
        )
        raise ValueError(msg)
    _check_trains(optimizer, [*model.net.parameters(), *model.external_trainable_variables])


def _check_trains(optimizer: MultiTermOptimizer[Any], wanted: Sequence[Tensor]) -> None:
    # DeepXDE hands what is to be trained only to the optimizers that it builds itself.
    own = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    left = [tuple(p.shape) for p in wanted if p.requires_grad and p not in own]
    if left:
        name = type(optimizer).__name__
        msg = (
            f"{name} would not train {len(left)} tensors of the model, of shapes {left}; write "
            f"`eq.{name}([*net.parameters(), *external_trainable_variables])`."
        )
        raise ValueError(msg)
