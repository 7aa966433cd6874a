"""Directions: updates as gradients of leaves, compared and added before any is applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, distributed

from equipoise.autograd import shared
from equipoise.autograd.accumulate import backward as go_backward
from equipoise.autograd.fabric import permitted
from equipoise.autograd.targets import flat
from equipoise.gradients.linalg import at_least_float32, inner
from equipoise.gradients.update import Update, gradients_at
from equipoise.parallel.dtensor import cut_over, local
from equipoise.parallel.fsdp import exchanged

if TYPE_CHECKING:
    from equipoise.parallel.averaging import GradientAverage

Direction: TypeAlias = "list[Tensor | None]"
"""One gradient for each leaf, ``None`` where there is none."""


@permitted()
def direction(
    updates: Sequence[Update],
    leaves: Sequence[Tensor],
    average: GradientAverage,
    *,
    retain_graph: bool,
) -> Direction:
    """What updates would add to ``.grad``, the same on every process.

    Args:
        updates: Of this process.
        leaves: Leaves of the graph, of parameters the same on every process; of sharded ones, their
            shards.
        average: Averages over the processes of a data-parallel run.
        retain_graph: Whether the graph outlives the last pass.
    """
    if any(leaf in average.sharded.shards() for leaf in leaves):
        return _of_shards(updates, leaves, average, retain_graph=retain_graph)
    found = gradients_at(updates, leaves, retain_graph=retain_graph)
    if average.processes.count == 1 or all(update.averaged for update in updates):
        return found
    pairs = zip(found, leaves, strict=True)
    own = [torch.zeros_like(leaf) if g is None else g.clone() for g, leaf in pairs]
    trained = set(shared.trained(leaves))  # inputs of the model are each process's own
    average.processes.average([g for g, leaf in zip(own, leaves, strict=True) if leaf in trained])
    return list(own)


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


def product(left: Direction, right: Direction) -> Tensor | None:
    """The inner product of two directions, over all processes that hold parts of them.

    Returns:
        A scalar, at least float32; ``None`` where no leaf has both gradients.
    """
    pairs = [(a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None]
    whole: dict[tuple[distributed.ProcessGroup, ...], Tensor] = {}
    for a, b in pairs:
        part = inner(_row(a), _row(b))
        over = tuple(cut_over(a))
        whole[over] = whole[over] + part if over in whole else part
    for groups, part in whole.items():
        for group in groups:
            distributed.all_reduce(part, group=group)
    return torch.stack(list(whole.values())).sum() if whole else None


def _row(gradient: Tensor) -> Tensor:
    return at_least_float32(flat(local(gradient)))


def plus(one: Direction, factor: Tensor, other: Direction) -> Direction:
    """``one + factor * other``, leaf by leaf."""
    return [
        a if b is None else b * factor.to(b.dtype) if a is None else a + b * factor.to(b.dtype)
        for a, b in zip(one, other, strict=True)
    ]
