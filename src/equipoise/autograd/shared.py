"""What the losses of a step share: parameters, the last shared layer, the representation."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from equipoise.autograd.graph import (
    LEAF,
    Parting,
    SharingError,
    below,
    edges_of,
    inputs_of,
    is_compiled_node,
    refuse_reentrant_checkpoint,
    variable,
)

if TYPE_CHECKING:
    from torch.autograd.graph import GradientEdge, Node


@dataclass(frozen=True)
class Parameters:
    """The leaves of a step's graph, told apart by which losses reach them.

    Attributes:
        shared: Parameters that at least two losses reach (with one loss: all that it reaches).
        own: For each loss, the leaves that it alone reaches.
        inputs: Leaves shared by losses that are no ``nn.Parameter`` while others are, such as the
            coordinates of a physics-informed network: they get a gradient, but are not watched.
    """

    shared: tuple[Tensor, ...]
    own: tuple[tuple[Tensor, ...], ...]
    inputs: tuple[Tensor, ...]

    @property
    def everything(self) -> tuple[Tensor, ...]:
        """All leaves that some loss reaches."""
        return (*self.shared, *self.inputs, *(leaf for leaves in self.own for leaf in leaves))


def is_compiled(losses: Sequence[Tensor]) -> bool:
    """Whether some part of the graph is a compiled function."""
    stack = [node for node, _ in edges_of(losses)]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if is_compiled_node(node):
            return True
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append(child)
    return False


def refuse_parting_in_compiled(parting: Parting, instead: str) -> None:
    """Raises where the graph cannot tell what is shared, as the paths part in a compiled function.

    Args:
        parting: Where the losses of one step part.
        instead: What the user may write in place of it.

    Raises:
        SharingError: If the losses leave a compiled function by different outputs.
    """
    if parting.count < 2:
        return
    for node, outputs in parting.edges.items():
        if len(set(outputs.values())) > 1 and is_compiled_node(node):
            msg = (
                "The paths of the losses part inside a compiled function, where shared parameters "
                f"and heads cannot be told apart. Pass {instead}, or compile the shared part "
                "alone: `model.trunk.compile()`."
            )
            raise SharingError(msg)


def parameters(losses: Sequence[Tensor] | Parting) -> Parameters:
    """Tells the leaves of the graph apart by which losses reach them.

    Args:
        losses: The live scalar losses of one step, or where they part.

    Returns:
        The shared parameters, what each loss has for itself, and shared leaves that are inputs.

    Raises:
        SharingError: If a part of the model is checkpointed with ``use_reentrant=True``.

    Example:
        >>> trunk = torch.ones(2, requires_grad=True)
        >>> head = torch.ones(2, requires_grad=True)
        >>> found = parameters([trunk.sum(), (trunk * head).sum()])
        >>> found.shared[0] is trunk, found.own[1][0] is head
        (True, True)
    """
    parting = _parting(losses)
    return told_apart(reach(parting), parting.count)


def reach(losses: Sequence[Tensor] | Parting) -> dict[Tensor, int]:
    """The leaves of a step's graph, each with the set of losses that reach it, as a bit mask.

    Args:
        losses: The live scalar losses of one step, or where they part.
    """
    parting = _parting(losses)
    masks = dict(parting.leaves)
    masks.update(dict.fromkeys(below(parting.meeting), parting.full))
    return {variable(node): mask for node, mask in masks.items()}


def told_apart(reached: Mapping[Tensor, int], count: int) -> Parameters:
    """Tells leaves apart by which losses reach them.

    Args:
        reached: Each leaf with the set of losses that reach it, as a bit mask.
        count: How many losses there are.
    """
    single = count == 1
    shared = [leaf for leaf, mask in reached.items() if single or mask & (mask - 1)]
    own = [
        tuple(leaf for leaf, mask in reached.items() if mask == 1 << i and not single)
        for i in range(count)
    ]
    watched = trained(shared)
    kept = set(watched)
    inputs = tuple(leaf for leaf in shared if leaf not in kept)
    return Parameters(tuple(watched), tuple(own), inputs)


def trained(leaves: Iterable[Tensor]) -> list[Tensor]:
    """The parameters among leaves; all of them where a model is made of plain tensors.

    Leaves beside parameters are inputs of the model: each process has its own.
    """
    found = list(leaves)
    return [leaf for leaf in found if isinstance(leaf, nn.Parameter)] or found


def representation(
    losses: Sequence[Tensor] | Parting, names: Sequence[str] | None = None
) -> tuple[GradientEdge, ...]:
    """The shared representation: the edges of the graph at which the paths of the losses part.

    Every loss reaches each of them, none lies above another, and what lies below is reached through
    them alone. The one exception is a parameter below that a head uses as well (tied weights).

    Args:
        losses: The live scalar losses of one step, or where they part: it then goes down to there.
        names: What they are called in error messages; default their positions.

    Returns:
        Gradient edges, which ``torch.autograd.grad`` takes as inputs.

    Raises:
        SharingError: If the losses never all meet.
    """
    parting = _parting(losses)
    frontier = parting.antichain()
    if not frontier:
        msg = "The losses never all meet in the graph, so there is no shared representation."
        raise SharingError(msg + _who_meets_whom(parting, names))
    newest_first = sorted(frontier, key=lambda node: -node._sequence_nr())
    return tuple(
        torch.autograd.graph.GradientEdge(node, output)
        for node in newest_first
        for output in sorted(parting.edges.get(node, {0: 0}))
    )


def heads(parting: Parting) -> tuple[tuple[Tensor, ...], ...] | None:
    """What lies above the shared representation.

    Args:
        parting: Gone down to the representation.

    Returns:
        For each loss, the leaves that it reaches around the representation; `None` where some of
        them lie below it as well (tied weights).
    """
    above = {node: mask for node, mask in parting.leaves.items() if mask != parting.full}
    if not above.keys().isdisjoint(below(parting.meeting)):
        return None
    return tuple(
        tuple(variable(node) for node, mask in above.items() if mask >> i & 1)
        for i in range(parting.count)
    )


def last_shared(
    losses: Sequence[Tensor] | Parting, names: Sequence[str] | None = None
) -> tuple[Tensor, ...]:
    """The last shared layer: the parameters of the newest operation that all losses share.

    An operation's parameters are those that reach it untouched by data: directly, or through
    operations on parameters alone (a transpose, a cast, a weight normalisation). An operation with
    a weight of two or more dimensions is preferred to one with only scales and biases.

    Args:
        losses: The live scalar losses of one step, or where they part.
        names: What they are called in error messages; default their positions.

    Returns:
        The parameters of that layer.

    Raises:
        SharingError: If the losses never all meet, or share no parameter.
    """
    parting = _parting(losses)
    fallback: tuple[Tensor, ...] = ()
    for layer in map(_without_inputs, _layers(parting.meeting)):
        # An input that requires gradients is a leaf too, but no layer if there are any.
        if _has_weight(layer) and isinstance(layer[0], nn.Parameter):
            return layer
        if not fallback or (_has_weight(layer) and not _has_weight(fallback)):
            fallback = layer
    if not fallback:
        msg = "The losses share no parameter, so there is no last shared layer."
        raise SharingError(msg + _who_meets_whom(parting, names))
    return fallback


def _layers(frontier: Sequence[Node]) -> Iterable[tuple[Tensor, ...]]:
    """The layers at and below the frontier, newest first."""
    seen = set(frontier)
    order = itertools.count()
    heap = [(-node._sequence_nr(), next(order), node) for node in frontier]
    heapq.heapify(heap)
    while heap:
        number, _, node = heapq.heappop(heap)
        if -number == LEAF:
            yield (variable(node),)
            continue
        refuse_reentrant_checkpoint(node)
        layer: dict[Tensor, None] = {}
        for child, _ in node.next_functions:
            if child is None:
                continue
            own = _parametric(child)
            layer.update(dict.fromkeys(own))
            if not own and child not in seen:
                seen.add(child)
                heapq.heappush(heap, (-child._sequence_nr(), next(order), child))
        if layer:
            yield tuple(layer)


def _has_weight(layer: tuple[Tensor, ...]) -> bool:
    return any(leaf.ndim >= 2 for leaf in layer)


def _without_inputs(layer: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The parameters among leaves, if there are any."""
    return tuple(leaf for leaf in layer if isinstance(leaf, nn.Parameter)) or layer


def _parametric(node: Node, depth: int = 6) -> tuple[Tensor, ...]:
    """The parameters that a node computes from, if it computes from parameters alone; else none."""
    if node._sequence_nr() == LEAF:
        return (variable(node),)
    found: list[Tensor] = []
    for child, _ in node.next_functions:
        part = _parametric(child, depth - 1) if child is not None and depth else ()
        if not part:
            return ()
        found.extend(part)
    return tuple(found)


def _parting(losses: Sequence[Tensor] | Parting) -> Parting:
    return losses if isinstance(losses, Parting) else Parting(losses)


def _who_meets_whom(parting: Parting, names: Sequence[str] | None) -> str:
    names = list(map(str, range(parting.count))) if names is None else names
    masks = {mask for outputs in parting.edges.values() for mask in outputs.values()}
    masks.update(parting.leaves.values())
    met = [mask for mask in masks if mask & (mask - 1)]
    if not met:
        every = ", ".join(map(repr, names))
        return f" No two of {every} share anything; check that they come from one model."
    lonely = [name for i, name in enumerate(names) if not any(mask >> i & 1 for mask in met)]
    if not lonely:
        return " Some share parameters pairwise only: use wrt='shared'."
    which = ", ".join(map(repr, lonely))
    return f" Nothing is shared with the others by {which}; leave it out of the losses."


def leaves_below(targets: Iterable[Tensor | GradientEdge]) -> list[Tensor]:
    """The leaves whose gradients flow through some of the targets, leaf targets included."""
    return [variable(node) for node in below(node for node, _ in edges_of(targets))]


def leaves_around(
    losses: Sequence[Tensor], targets: Iterable[Tensor | GradientEdge]
) -> list[Tensor]:
    """The leaves that losses reach on paths through none of the targets."""
    cut = set(edges_of(targets))
    stack = [edge for edge in edges_of(losses) if edge not in cut]
    seen = set(stack)
    leaves: dict[Tensor, None] = {}
    while stack:
        node, output = stack.pop()
        if node._sequence_nr() == LEAF:
            leaves[variable(node)] = None
        for edge in inputs_of(node, output):
            if edge not in cut and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return list(leaves)
