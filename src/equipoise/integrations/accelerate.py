"""Accelerate: one rule for which micro-batch of an accumulation teaches the balancer."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

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
