"""`Passes`: the backward passes of one step, and the rows that they fill."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from equipoise.autograd.fabric import permitted
from equipoise.autograd.targets import Target, like, numel, refuse_sparse
from equipoise.gradients.gradients import Pool


@dataclass
class Passes:
    """The backward passes of one step: the gradient of loss ``i``, computed when asked for.

    Attributes:
        losses: The live scalars; ``None`` for one that only other processes have.
        targets: What the gradients are taken with respect to: tensors or edges of the graph.
        own: For each loss, leaves whose gradient the same pass keeps in `own_gradients`.
        suffice: Whether nothing more is needed of the losses to write ``.grad``.
        seed: What the losses' gradient starts from, a scalar tensor: a loss scale, or one.
        retain_graph: Whether the graph outlives the last pass.
        average: Averages gradients over the processes of a data-parallel run, in place.
        inputs: Leaves that are inputs of the model, of which each process has its own: they are not
            averaged. Among the targets they come last.
        pool: Where each process finds only a part of every gradient: see `Gradients`.
        own_gradients: What the passes found of each loss's own leaves.
        reached: Whether some loss reached some target.
    """

    losses: Sequence[Tensor | None]
    targets: Sequence[Target]
    own: Sequence[Sequence[Tensor]] = ()
    suffice: bool = False
    seed: Tensor | None = None
    retain_graph: bool = True
    average: Callable[[Sequence[Tensor]], None] | None = None
    inputs: Collection[Tensor] = ()
    pool: Pool | None = None
    own_gradients: list[Sequence[Tensor | None]] = field(default_factory=list)
    reached: bool = False

    def __post_init__(self) -> None:
        """Nothing is known of the own parameters before their pass."""
        self.own_gradients = [()] * len(self.losses)

    @permitted()
    def row(self, i: int, *, last: bool = False) -> list[Tensor | None]:
        """The gradient of loss ``i``: one tensor a target, ``None`` where it does not reach."""
        loss = self.losses[i]
        own = self.own[i] if self.own else ()
        if loss is None:
            self.own_gradients[i] = [None] * len(own)
            return self._watched([None] * len(self.targets))
        seed = None if self.seed is None else [self.seed.to(loss.dtype)]
        found = torch.autograd.grad(
            [loss],
            [*self.targets, *own],  # type: ignore[arg-type]  # torch takes edges and tensors mixed
            grad_outputs=seed,
            retain_graph=self.retain_graph or not last,
            allow_unused=True,
        )
        self.own_gradients[i] = found[len(self.targets) :]
        return self._watched(found)

    @permitted()
    def rows(self, start: int, stop: int, *, last: bool = False) -> list[list[Tensor | None]]:
        """The gradients of losses ``start`` to ``stop`` from one batched pass."""
        losses = [loss for loss in self.losses[start:stop] if loss is not None]
        if len(losses) < stop - start:
            return [self.row(i, last=last and i == stop - 1) for i in range(start, stop)]
        ones = torch.eye(len(losses), dtype=losses[0].dtype, device=losses[0].device)
        if self.seed is not None:
            ones = ones * self.seed
        own = [leaf for leaves in self.own[start:stop] for leaf in leaves]
        found = torch.autograd.grad(
            losses,
            [*self.targets, *own],  # type: ignore[arg-type]  # torch takes edges and tensors mixed
            grad_outputs=[one.to(loss.dtype) for one, loss in zip(ones, losses, strict=True)],
            retain_graph=self.retain_graph or not last,
            allow_unused=True,
            is_grads_batched=True,
        )
        leftover = iter(found[len(self.targets) :])
        for i, leaves in enumerate(self.own[start:stop]):
            batched = [next(leftover) for _ in leaves]
            self.own_gradients[start + i] = [g if g is None else g[i] for g in batched]
        targets = self._watched(found)
        return [[g if g is None else g[i] for g in targets] for i in range(len(losses))]

    @cached_property
    def sizes(self) -> list[int]:
        """The number of elements that a row has of each target."""
        return [numel(target) for target in self.targets]

    def shaped(self, target: Target, flat: Tensor) -> Tensor:
        """A flat gradient, of as many elements as a row has, in the form of its target."""
        return like(target, flat)

    def holder(self, leaf: Tensor) -> Tensor:
        """The tensor in whose ``.grad`` the gradient of a leaf belongs."""
        return leaf

    @property
    def like(self) -> Tensor:
        """Some loss, whose dtype and device count."""
        return next(loss for loss in self.losses if loss is not None)

    @property
    def last(self) -> int:
        """The position of the last loss that this process has: its pass may free the graph."""
        return max(i for i, loss in enumerate(self.losses) if loss is not None)

    def average_own(self) -> None:
        """Averages what was found of the losses' own leaves over the processes."""
        if self.average is None or not self.own:
            return
        filled = [
            [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(own, found, strict=True)]
            for own, found in zip(self.own, self.own_gradients, strict=True)
        ]
        pairs = zip(self.own, filled, strict=True)
        found = [(leaf, g) for own, part in pairs for leaf, g in zip(own, part, strict=True)]
        self.average([gradient for leaf, gradient in found if leaf not in self.inputs])
        self.own_gradients = list(filled)

    def _watched(self, found: Sequence[Tensor | None]) -> list[Tensor | None]:
        watched = list(found[: len(self.targets)])
        refuse_sparse(watched)
        self.reached = self.reached or any(gradient is not None for gradient in watched)
        return watched


def stack_rows(passes: Passes, out: Tensor, sizes: Sequence[int], chunk: int = 1) -> Tensor:
    """Runs the passes and lays their gradients into the rows of ``out``.

    Args:
        passes: The passes to run, ``T`` of them.
        out: ``[T, P]``, overwritten.
        sizes: The number of elements of each target.
        chunk: How many losses share one batched pass.

    Returns:
        ``out``.
    """
    count = len(passes.losses)
    common = sum(n for t, n in zip(passes.targets, sizes, strict=True) if t not in passes.inputs)
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        last = start <= passes.last < stop
        if chunk == 1:
            found = [passes.row(start, last=last)]
        else:
            found = passes.rows(start, stop, last=last)
        for row, gradients in zip(out[start:stop], found, strict=True):
            _lay(row, gradients, sizes)
            if passes.average is not None:
                passes.average([row[:common]])
        del found, gradients  # else they live on beside those of the next pass
    return out


def _lay(row: Tensor, gradients: Sequence[Tensor | None], sizes: Sequence[int]) -> None:
    places: list[Tensor] = []
    found: list[Tensor] = []
    for place, gradient in zip(row.split(list(sizes)), gradients, strict=True):
        if gradient is None:
            place.zero_()
        else:
            parts = torch.view_as_real(gradient) if gradient.is_complex() else gradient
            places.append(place.view(parts.shape))
            found.append(parts)
    if found:
        torch._foreach_copy_(places, found)
