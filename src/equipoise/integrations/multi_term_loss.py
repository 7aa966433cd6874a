"""`MTAdam` and `AutoBalance` as one scalar loss, for frameworks that call ``.backward()``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from equipoise.integrations.balanced_loss import deferred
from equipoise.losses import check_several
from equipoise.optim.base import MultiTermOptimizer

if TYPE_CHECKING:
    from torch.amp import GradScaler

    from equipoise.losses import Losses

LossT = TypeVar("LossT")


def behind(optimizer: object) -> MultiTermOptimizer[Any]:
    """The multi-term optimizer that a framework has wrapped.

    Args:
        optimizer: It, or what a framework made of it: its ``optimizer`` then.

    Raises:
        TypeError: If it is none.
    """
    inner = getattr(optimizer, "optimizer", optimizer)
    if not isinstance(inner, MultiTermOptimizer):
        msg = (
            f"{type(inner).__name__} takes one gradient, not one per loss; train with MTAdam or "
            "AutoBalance, or give a balancer."
        )
        raise TypeError(msg)
    return inner


def multi_term_loss(
    optimizer: MultiTermOptimizer[Any],
    losses: Losses,
    *,
    last: bool = True,
    scaler: GradScaler | None = None,
) -> Tensor:
    """A scalar whose ``.backward()`` is ``optimizer.backward(losses)``.

    What a framework multiplies the scalar with before it goes backward multiplies the losses: one
    over the number of micro-batches. A loss scale is taken out again, which ``scaler`` knows of.

    Args:
        optimizer: The optimizer that steps afterwards.
        losses: The losses of this batch.
        last: Whether the optimizer steps after this batch; if not, gradients are added up only.
        scaler: What scales the scalar, if anything does.

    Returns:
        A scalar with the value of the plain sum, which is what to watch and to log.

    Example:
        >>> from equipoise import MTAdam
        >>> weight = torch.ones(2, requires_grad=True)
        >>> optimizer = MTAdam([weight], lr=0.1)
        >>> loss = multi_term_loss(optimizer, {"a": weight.sum(), "b": weight.square().sum()})
        >>> loss.backward()
        >>> optimizer.step()
        >>> loss.item(), weight.detach()
        (4.0, tensor([0.8000, 0.8000]))
    """
    total = sum_of(losses)
    if not torch.is_grad_enabled():
        return total

    def backward(factor: Tensor) -> None:
        if scaler is not None and scaler.is_enabled():
            factor = factor / scaler.scale(torch.ones_like(factor))
        with nullcontext() if last else optimizer.accumulate(), torch.enable_grad():
            optimizer.backward(_times(losses, factor), scaler=scaler)

    return deferred(total, backward)


def sum_of(losses: Losses) -> Tensor:
    """The plain sum of the losses that are there, without a graph.

    Args:
        losses: As `multi_term_loss` takes them.

    Raises:
        TypeError: If they are no losses.
        ValueError: If they are one number.
    """
    check_several(losses)
    given = losses.values() if isinstance(losses, Mapping) else losses
    there: Iterable[Tensor | float] = (loss for loss in given if loss is not None)
    return torch.as_tensor(sum(torch.as_tensor(loss).detach() for loss in there))


def _times(losses: Losses, factor: Tensor) -> Losses:
    """Each loss times the factor; what is no tensor is left to the error that names it."""
    if isinstance(losses, Tensor):
        return losses * factor
    if isinstance(losses, Mapping):
        return {name: _each(loss, factor) for name, loss in losses.items()}
    return [_each(loss, factor) for loss in losses]


def _each(loss: LossT, factor: Tensor) -> LossT | Tensor:
    return loss * factor if isinstance(loss, Tensor) else loss
