"""Any balancer as one scalar loss, for frameworks that call ``.backward()`` themselves."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from equipoise.losses import Losses, read_losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.autograd.function import FunctionCtx

    from equipoise.balancer import Balancer


class LossScale(GradScaler):
    """What a framework multiplied the loss with, where a balancer expects a ``GradScaler``.

    Args:
        factor: A scalar tensor: a loss scale, one over the number of micro-batches, or both.
    """

    def __init__(self, factor: Tensor) -> None:
        super().__init__(factor.device.type, enabled=False)
        self.factor = factor

    def is_enabled(self) -> bool:
        """Yes."""
        return True

    def scale(self, outputs: Tensor) -> Tensor:  # type: ignore[override]  # one tensor, no list
        """The tensor times the factor."""
        return outputs * self.factor.to(outputs.dtype)


def plain_sum(balancer: Balancer, losses: Losses) -> Tensor:
    """The sum of the losses that are there, a scalar of the graph.

    Args:
        balancer: Knows the names of the losses.
        losses: The losses of this step.
    """
    terms = read_losses(losses, balancer.names, graphless=balancer.graphless)
    return terms.balanced(torch.ones_like(terms.values()))


def balanced_loss(balancer: Balancer, losses: Losses) -> Tensor:
    """A scalar whose ``.backward()`` is ``balancer.backward(losses)``.

    Works for every method, also those that are no weighting of the losses. What a framework
    multiplies the scalar with before it goes backward, such as a loss scale, reaches ``.grad`` and
    the measurements, not the weights. Whether the balancer learns is what holds at this call.

    Args:
        balancer: The balancer.
        losses: The losses of this step.

    Returns:
        A scalar with the value of the plain sum, which is what to watch and to log.

    Example:
        >>> from equipoise import GradDrop
        >>> weight = torch.ones(2, requires_grad=True)
        >>> losses = {"a": weight.sum(), "b": weight.square().sum()}
        >>> loss = balanced_loss(GradDrop(["a", "b"]), losses)
        >>> (loss / 2).backward()
        >>> loss.item(), weight.grad
        (4.0, tensor([1.5000, 1.5000]))
    """
    total = plain_sum(balancer, losses)
    if not torch.is_grad_enabled():
        return total
    learning = balancer.learning

    def backward(factor: Tensor) -> None:
        with nullcontext() if learning else balancer.frozen(), torch.enable_grad():
            balancer.backward(losses, scaler=LossScale(factor))

    return deferred(total.detach(), backward)


def deferred(value: Tensor, backward: Callable[[Tensor], None]) -> Tensor:
    """A scalar whose ``.backward()`` is a call.

    Args:
        value: What it shows.
        backward: Gets the factor that the scalar was multiplied with before it went backward.
    """
    # The losses' own graph hangs on a leaf's gradient, not on the scalar: it goes backward once.
    anchor = torch.zeros((), device=value.device, requires_grad=True)
    scalar: Tensor = _Deferred.apply(  # type: ignore[no-untyped-call]
        anchor, value, backward
    )
    return scalar


class _Deferred(torch.autograd.Function):
    """A value whose backward pass is a call."""

    @staticmethod
    def forward(  # autograd hands over what `apply` got
        ctx: FunctionCtx, anchor: Tensor, value: Tensor, backward: Callable[[Tensor], None]
    ) -> Tensor:
        del anchor
        ctx.run = backward  # type: ignore[attr-defined]
        return value.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, factor: Tensor) -> tuple[None, None, None]:
        ctx.run(factor)  # type: ignore[attr-defined]
        return None, None, None
