"""`Update`: what a step is about to add to ``.grad``, before it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.autograd.targets import Target
from equipoise.gradients.passes import Passes

_SMALL = 1 << 20
"""Columns up to which a combination is made at once and then cut up."""


@dataclass(frozen=True)
class Update:
    """Where a backward pass starts, and with which gradients.

    Attributes:
        roots: Losses, edges of the graph, or leaves.
        seeds: One gradient for each root, with the loss scale if there is one; ``None`` for a leaf
            whose hooks are to fire all the same.
        inputs: The leaves that receive a gradient; none named means all that are reached.
        averaged: Whether the seeds are means over the processes of a data-parallel run already.
        retain_graph: Whether the graph outlives the pass whatever else is asked for.
        exchanged: Targets on the way with the gradients to go on with from there.
    """

    roots: Sequence[Target]
    seeds: list[Tensor | None]
    inputs: Sequence[Tensor] = ()
    averaged: bool = False
    retain_graph: bool = False
    exchanged: Sequence[tuple[Target, Tensor]] = ()


def of_rows(
    passes: Passes, rows: Tensor, weights: Tensor, own_weights: Tensor, sizes: Sequence[int]
) -> Update:
    """The update of weighted losses, from rows that hold all that they share.

    Args:
        passes: The passes that found the rows, with what they found of each loss's own leaves.
        rows: ``[T, P]``, scaled as the passes were.
        weights: ``[len(present)]``, those of the losses.
        own_weights: ``[len(present)]``, those of each loss's own leaves.
        sizes: The number of columns of each target.
    """
    weights_of_rows = weights.to(rows.dtype)
    if rows.shape[1] <= _SMALL:
        # Each its own memory, as autograd would leave them.
        parts = [part.clone() for part in (weights_of_rows @ rows).split(list(sizes))]
    else:
        parts = [weights_of_rows @ part for part in rows.split(list(sizes), dim=1)]
    return of_parts(passes, parts, weights, own_weights)


def of_parts(
    passes: Passes, parts: Sequence[Tensor], weights: Tensor, own_weights: Tensor
) -> Update:
    """The update whose gradient at each target is known.

    Args:
        passes: As for `of_rows`.
        parts: One flat gradient for each target.
        weights: As for `of_rows`.
        own_weights: As for `of_rows`.
    """
    found = [*zip(passes.targets, parts, strict=True), *_own_sums(passes, weights, own_weights)]
    seeds: list[Tensor | None] = [passes.shaped(target, gradient) for target, gradient in found]
    roots = [passes.holder(t) if isinstance(t, Tensor) else t for t, _ in found]
    return Update(roots, seeds, averaged=True)


def _own_sums(
    passes: Passes, weights: Tensor, own_weights: Tensor
) -> Iterable[tuple[Tensor, Tensor]]:
    """The gradient of each leaf that the passes kept beside the targets, weighted and summed."""
    losses = Counter(leaf for own in passes.own for leaf in own)
    sums: dict[Tensor, Tensor] = {}
    kept = zip(passes.own, passes.own_gradients, weights, own_weights, strict=True)
    for own, found, weight, own_weight in kept if passes.own else ():
        for leaf, gradient in zip(own, found, strict=True):
            if gradient is not None:
                chosen = own_weight if losses[leaf] == 1 else weight
                weighted = gradient * chosen.to(gradient.real.dtype)
                sums[leaf] = sums[leaf] + weighted if leaf in sums else weighted
    return sums.items()


def gradients_at(
    updates: Sequence[Update], leaves: Sequence[Tensor], *, retain_graph: bool
) -> list[Tensor | None]:
    """What updates would add to the ``.grad`` of leaves, without doing it.

    Args:
        updates: Of this process.
        leaves: Leaves of the graph.
        retain_graph: Whether the graph outlives the last pass.

    Returns:
        One gradient for each leaf, ``None`` where nothing reaches it.
    """
    sums: dict[Tensor, Tensor] = {}
    for number, update in enumerate(updates, 1):
        found = _found(update, leaves, retain_graph=retain_graph or number < len(updates))
        for leaf, gradient in found:
            sums[leaf] = sums[leaf] + gradient if leaf in sums else gradient
    return [sums.get(leaf) for leaf in leaves]


def _found(
    update: Update, leaves: Sequence[Tensor], *, retain_graph: bool
) -> Iterable[tuple[Tensor, Tensor]]:
    if all(isinstance(root, Tensor) and root.is_leaf for root in update.roots):
        pairs = zip(update.roots, update.seeds, strict=True)
        return [(r, g) for r, g in pairs if isinstance(r, Tensor) and g is not None]
    allowed = set(update.inputs)
    reached = [leaf for leaf in leaves if not allowed or leaf in allowed]
    found = torch.autograd.grad(
        list(update.roots),  # type: ignore[arg-type]  # torch takes edges too
        reached,
        update.seeds,
        retain_graph=retain_graph,
        allow_unused=True,
    )
    return [(leaf, g) for leaf, g in zip(reached, found, strict=True) if g is not None]
