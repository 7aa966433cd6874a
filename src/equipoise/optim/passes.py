"""The gradients of the losses, one after the other, with what micro-batches have added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.amp import GradScaler

from equipoise.autograd.shared import parameters as leaves_of
from equipoise.losses import Terms

Gradients: TypeAlias = "list[Tensor | None]"
"""One gradient for each parameter; ``None`` where a loss does not reach it."""


def passes(
    terms: Terms,
    accumulated: dict[int, Gradients],
    compute: Callable[[int, Tensor | None], Gradients],
) -> Iterator[tuple[int, Gradients]]:
    """Computes the gradients of one loss when it is asked for them, and keeps none.

    Args:
        terms: The losses of this batch.
        accumulated: Gradients of earlier micro-batches by the position of their loss; each is taken
            out as its turn comes.
        compute: Returns the gradients of the loss at a position; the loss is ``None`` where only
            another process has it.

    Yields:
        The position of a loss, ascending, and its gradients.
    """
    live = dict(zip(terms.present, terms.places, strict=True))
    for i in sorted({*live, *accumulated}):
        gradients = accumulated.pop(i, None)
        if i in live:
            found = compute(i, live[i])
            gradients = found if gradients is None else _sums(gradients, found)
            del found
        if gradients is not None:
            yield i, gradients
        del gradients  # Only one is alive at a time.


def _sums(gradients: Gradients, more: Gradients) -> Gradients:
    # Not in place: autograd may have given the same memory to several parameters.
    return [
        one if other is None else other if one is None else one + other
        for one, other in zip(gradients, more, strict=True)
    ]


def scaled(scaler: GradScaler | None, loss: Tensor) -> Tensor:
    """The loss times the scale, if there is one."""
    if scaler is None:
        return loss
    with torch.enable_grad():
        product: Tensor = scaler.scale(loss)
    return product


def inverse_scale(scaler: GradScaler, like: Tensor) -> Tensor:
    """One over the scale, a scalar on the device of ``like``."""
    return scaled(scaler, torch.ones((), device=like.device)).reciprocal()


def reached_by(
    parameters: Sequence[Tensor],
    known: Iterable[Sequence[Tensor | bool | None]],
    pending: Iterable[Tensor | None],
) -> set[Tensor]:
    """The parameters that some loss of the step reaches, known from the first gradients on.

    Args:
        parameters: Those of the optimizer.
        known: For losses whose reach is known, one entry a parameter: its gradient or ``True``
            where the loss reaches it, else ``None`` or ``False``.
        pending: The losses whose gradients are yet to be computed. Their graph is read only if a
            parameter is not reached by what is known.

    Raises:
        ValueError: If there is none.
    """
    reached: set[Tensor] = set()
    for of_loss in known:
        pairs = zip(parameters, of_loss, strict=True)
        reached.update(p for p, there in pairs if there is not None and there is not False)
    live = [loss for loss in pending if loss is not None]
    if live and len(reached) < len(parameters):
        reached.update(leaves_of(live).everything)
    active = reached.intersection(parameters)
    if not active:
        msg = "No loss reaches a parameter of this optimizer; pass those of the trained model."
        raise ValueError(msg)
    return active
