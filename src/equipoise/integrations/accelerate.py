"""Accelerate: balancers and multi-term optimizers inside ``accelerator.accumulate``."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

from equipoise.integrations.multi_term_loss import behind, multi_term_loss

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from equipoise.balancer import Balancer
    from equipoise.losses import Losses
    from equipoise.record import Record


class Accelerating(Protocol):
    """What of ``accelerate.Accelerator`` is needed."""

    @property
    def sync_gradients(self) -> bool:
        """Whether this micro-batch is the last before a step."""

    def backward(self, loss: Tensor) -> None:
        """Goes backward, with the loss scale and over the number of micro-batches."""


class AccumulatedBackward:
    """``balancer.backward`` inside ``accelerator.accumulate(model)``.

    The first micro-batch of each accumulation decides the weights; they hold for the others, which
    run in ``balancer.frozen()``, so that all gradients of a step are weighted alike. Where the
    first should not decide alone, learn from all of them: call
    ``balancer.backward(losses, backward=accelerator.backward)`` each time instead, and every
    micro-batch counts as a step of the method.

    ``accelerator.register_for_checkpointing(balancer)`` saves and resumes the balancer.

    In fp16 the gradients that a method looks at are measured without the loss scale. Without
    accumulation, ``balancer.backward(losses, scaler=accelerator.scaler)`` measures them with it.

    Args:
        balancer: The balancer.
        accelerator: The ``accelerate.Accelerator`` of the loop.

    Example::

        backward = AccumulatedBackward(GradNorm(["near", "far"]), accelerator)
        for batch in loader:
            with accelerator.accumulate(model):
                backward(model(batch))
                optimizer.step()
                optimizer.zero_grad()
    """

    def __init__(self, balancer: Balancer, accelerator: Accelerating) -> None:
        self.balancer = balancer
        self.accelerator = accelerator
        self._first = True

    def __call__(self, losses: Losses) -> Record:
        """Balances the losses of one micro-batch and accumulates into ``.grad``.

        Args:
            losses: The losses of this micro-batch; Accelerate divides them by their number.

        Returns:
            The record of the micro-batch.
        """
        with nullcontext() if self._first else self.balancer.frozen():
            record = self.balancer.backward(losses, backward=self.accelerator.backward)
        self._first = self.accelerator.sync_gradients
        return record


class MultiTermBackward:
    """``MTAdam`` and ``AutoBalance`` as an optimizer that Accelerate has prepared.

    A prepared optimizer has ``step`` and ``zero_grad`` and nothing else; this is its ``backward``.
    Gradients are added up, loss by loss, over the micro-batches of ``accelerator.accumulate``, and
    with fp16 the losses are scaled by Accelerate's scaler. ``accelerator.clip_grad_norm_``,
    ``save_state`` and ``load_state`` work as for any optimizer; for ``load_state`` build the
    optimizer with ``losses=``.

    Args:
        optimizer: What ``accelerator.prepare`` returned, or the optimizer itself.
        accelerator: The ``accelerate.Accelerator`` of the loop.

    Attributes:
        optimizer: The optimizer itself, with ``report()``, ``weights`` and ``last``.

    Raises:
        TypeError: If it is no multi-term optimizer.

    Example::

        optimizer = MTAdam(model.parameters(), lr=1e-3)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        backward = MultiTermBackward(optimizer, accelerator)
        for batch in loader:
            with accelerator.accumulate(model):
                backward(model(batch))
                optimizer.step()
                optimizer.zero_grad()
        print(backward.optimizer.report())
    """

    def __init__(self, optimizer: Optimizer, accelerator: Accelerating) -> None:
        self.optimizer = behind(optimizer)
        self.accelerator = accelerator

    def __call__(self, losses: Losses) -> None:
        """Takes the losses of one micro-batch, in place of ``accelerator.backward(loss)``.

        Args:
            losses: By name, in order, or a ``[T]`` tensor; Accelerate divides them by the number of
                micro-batches.
        """
        loss = multi_term_loss(
            self.optimizer,
            losses,
            last=self.accelerator.sync_gradients,
            scaler=getattr(self.accelerator, "scaler", None),
        )
        self.accelerator.backward(loss)
