"""The gradients of the losses, one after the other, with what micro-batches have added up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor
from torch.amp import GradScaler

from equipoise.autograd.shared import is_compiled, leaves_below
from equipoise.losses import Terms

PerParameter: TypeAlias = "list[Tensor | None]"
"""One gradient for each parameter; ``None`` where a loss does not reach it."""


class Passes:
    """The backward passes of one batch, each run when its gradients are asked for.

    Args:
        terms: The losses of the batch.
        targets: The leaves that gradients are wanted for.
        gradients: Returns the gradients of one loss with respect to the targets; the keyword
            ``retain_graph`` tells whether the graph outlives the pass.
        scaler: Scales the losses, if there is one.
        retain_graph: Whether the graph outlives the last pass.
    """

    def __init__(
        self,
        terms: Terms,
        targets: list[Tensor],
        gradients: Callable[..., PerParameter],
        scaler: GradScaler | None,
        *,
        retain_graph: bool,
    ) -> None:
        self.terms = terms
        self.live = dict(zip(terms.present, terms.places, strict=True))
        self.leaves = leaves_below(terms.tensors)
        self._targets = targets
        self._gradients = gradients
        self._scaler = scaler
        self._retain_graph = retain_graph
        self._last = terms.present[terms.here[-1]]

    def each(self, accumulated: dict[int, PerParameter]) -> Iterator[tuple[int, PerParameter]]:
        """Computes the gradients of one loss when it is asked for them, and keeps none.

        Args:
            accumulated: Gradients of earlier micro-batches by the position of their loss; each is
                taken out as its turn comes.

        Yields:
            The position of a loss, ascending, and its gradients.
        """
        for i in sorted({*self.live, *accumulated}):
            gradients = accumulated.pop(i, None)
            if i in self.live:
                found = self._pass(i, self.live[i])
                gradients = found if gradients is None else _sums(gradients, found)
                del found
            if gradients is not None:
                yield i, gradients
            del gradients  # Only one is alive at a time.

    def _pass(self, i: int, loss: Tensor | None) -> PerParameter:
        if loss is None:  # only another process has it
            return [None] * len(self._targets)
        retain_graph = self._retain_graph or i != self._last
        return self._gradients(scaled(self._scaler, loss), self._targets, retain_graph=retain_graph)

    def inverse_scale(self) -> Tensor | None:
        """One over the scale of the losses, a scalar on their device."""
        if self._scaler is None:
            return None
        one = torch.ones((), device=self.terms.tensors[0].device)
        return scaled(self._scaler, one).reciprocal()


def _sums(gradients: PerParameter, more: PerParameter) -> PerParameter:
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


class Compiled:
    """Knows which losses' graphs hold compiled functions; each combination is looked at once.

    A compiled function whose first pass does not keep the graph gives its buffers away for good,
    and a loss that starts later needs them twice. So all passes through one keep the graph.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], bool] = {}

    def within(self, terms: Terms) -> bool:
        """Whether a pass that does not keep the graph would end all later ones that do."""
        if len(terms.names) > 1 and terms.present not in self._known:
            self._known[terms.present] = is_compiled(terms.tensors)
        return self._known.get(terms.present, False)
