"""Directions: updates as gradients of leaves, compared and added before any is applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, distributed

from equipoise.autograd.accumulate import backward as go_backward
from equipoise.autograd.fabric import permitted
from equipoise.autograd.targets import flat, refuse_sparse
from equipoise.gradients.linalg import at_least_float32, inner
from equipoise.gradients.update import Update, gradients_at
from equipoise.parallel.averaging import GradientAverage
from equipoise.parallel.dtensor import cut_over, local
from equipoise.parallel.fsdp import exchanged

_SMALL = 1 << 14
"""Elements up to which gradients are laid side by side."""

Direction: TypeAlias = list[Tensor | None]
"""One gradient for each leaf, ``None`` where there is none."""


@permitted()
def direction(
    updates: Sequence[Update],
    leaves: Sequence[Tensor],
    average: GradientAverage,
    common: Sequence[Tensor],
    *,
    retain_graph: bool,
) -> Direction:
    """What updates would add to ``.grad``, the same on every process.

    Args:
        updates: Of this process.
        leaves: Leaves of the graph.
        average: Averages over the processes of a data-parallel run.
        common: Those of the leaves that all processes have, in the same order on each; the others
            are inputs of the model.
        retain_graph: Whether the graph outlives the last pass.
    """
    if not average.sharded.shards().keys().isdisjoint(leaves):
        return _of_shards(updates, leaves, average, retain_graph=retain_graph)
    found = gradients_at(updates, leaves, retain_graph=retain_graph)
    refuse_sparse(found)
    if average.processes.count == 1 or all(update.averaged for update in updates):
        return found
    own = dict(zip(leaves, found, strict=True))
    for leaf in common:
        gradient = own[leaf]
        own[leaf] = torch.zeros_like(leaf) if gradient is None else gradient.clone()
    average.processes.average([g for leaf in common if (g := own[leaf]) is not None])
    return [own[leaf] for leaf in leaves]


def _of_shards(
    updates: Sequence[Update],
    leaves: Sequence[Tensor],
    average: GradientAverage,
    *,
    retain_graph: bool,
) -> Direction:
    """By ordinary passes, whose hooks fill the shards; ``.grad`` is left as it was."""
    shards = average.sharded.shards()
    holders = [shards.get(leaf, leaf) for leaf in leaves]
    before = [holder.grad for holder in holders]
    for holder in holders:
        holder.grad = None
    try:
        for number, update in enumerate(updates, 1):
            with exchanged(update.exchanged):
                go_backward(
                    update.roots,
                    list(update.seeds),
                    retain_graph=retain_graph or number < len(updates),
                    inputs=update.inputs,
                )
        return [holder.grad for holder in holders]
    finally:
        for holder, gradient in zip(holders, before, strict=True):
            holder.grad = gradient


def products(
    one: Direction, other: Direction, average: GradientAverage
) -> tuple[Tensor, Tensor] | None:
    """``<one, other>`` and ``<other, other>``, over all processes that hold parts of them.

    Returns:
        Two scalars, at least float32; ``None`` where no leaf has both gradients.
    """
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    if not average.sharded.shards():
        both = _products(pairs)
        return both[0], both[1]
    total = torch.zeros(2, device=pairs[0][0].device)
    for a, b in pairs:
        part = _products([(local(a), local(b))])
        for group in cut_over(a):
            distributed.all_reduce(part, group=group)
        total = total + part
    return total[0], total[1]


def _products(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """``[2]``; small gradients are laid side by side, as a product each would cost more."""
    rows = [(at_least_float32(flat(a)), at_least_float32(flat(b))) for a, b in pairs]
    small = [(a, b) for a, b in rows if a.numel() <= _SMALL]
    whole = [(a, b) for a, b in rows if a.numel() > _SMALL]
    if small:
        whole.append((torch.cat([a for a, _ in small]), torch.cat([b for _, b in small])))
    return torch.stack([torch.stack([inner(a, b), inner(b, b)]) for a, b in whole]).sum(dim=0)


def plus(one: Direction, factor: Tensor, other: Direction) -> Direction:
    """``one + factor * other``, leaf by leaf."""
    return [
        a if b is None else b * factor.to(b.dtype) if a is None else a + b * factor.to(b.dtype)
        for a, b in zip(one, other, strict=True)
    ]
