"""The layers of a step's graph: operations with the parameters that they use."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterable, Sequence

from torch import Tensor, nn
from torch.autograd.graph import Node

from equipoise.autograd.graph import LEAF, refuse_reentrant_checkpoint, variable
from equipoise.autograd.operations import INDEXED


def newest_layer(
    frontier: Sequence[Node], trained: Collection[Tensor] | None = None
) -> tuple[Tensor, ...]:
    """The parameters of the newest operation at or below the frontier that has any.

    One with a weight of two or more dimensions is preferred to one with scales and biases only.

    Args:
        frontier: Nodes of the graph.
        trained: What is trained; other layers are passed.

    Returns:
        The parameters; none where there is no such operation.
    """
    fallback: tuple[Tensor, ...] = ()
    for found in _layers(frontier):
        layer = _without_inputs(found, trained)
        # An input that requires gradients is a leaf too, but no layer if there are any.
        if _has_weight(layer) and (trained or isinstance(layer[0], nn.Parameter)):
            return layer
        if not fallback or (_has_weight(layer) and not _has_weight(fallback)):
            fallback = layer
    return fallback


def _layers(frontier: Sequence[Node]) -> Iterable[tuple[Tensor, ...]]:
    """The layers at and below the frontier, newest first."""
    # Newest first: the first operation that has parameters is the last one that was computed.
    seen = set(frontier)
    order = itertools.count()  # leaves all have one number: in the order in which they are met
    heap = [(-node._sequence_nr(), next(order), node) for node in frontier]
    heapq.heapify(heap)
    while heap:
        number, _, node = heapq.heappop(heap)
        if -number == LEAF:
            if variable(node).requires_grad:
                yield (variable(node),)
            continue
        refuse_reentrant_checkpoint(node)
        layer: dict[Tensor, None] = {}
        for child, _ in node.next_functions:
            if child is None:
                continue
            # A weight that is computed (normalised, cast, transposed) belongs to the operation that
            # uses it; only what data went into is walked on through.
            own = parametric(child)
            layer.update(dict.fromkeys(own))
            if not own and child not in seen:
                seen.add(child)
                heapq.heappush(heap, (-child._sequence_nr(), next(order), child))
        if layer:
            yield tuple(layer)


def _has_weight(layer: tuple[Tensor, ...]) -> bool:
    return any(leaf.ndim >= 2 for leaf in layer)


def _without_inputs(
    layer: tuple[Tensor, ...], trained: Collection[Tensor] | None
) -> tuple[Tensor, ...]:
    """Those of a layer's leaves that are trained; if that is not said, its parameters if any."""
    if trained is not None:
        return tuple(leaf for leaf in layer if leaf in trained)
    return tuple(leaf for leaf in layer if isinstance(leaf, nn.Parameter)) or layer


def parametric(node: Node, depth: int = 6) -> tuple[Tensor, ...]:
    """The parameters that a node computes from, if it computes from parameters alone; else none.

    Data that needs no gradient is no edge of the graph. Most operations show a gap in its place,
    but a look-up has none for its indices, nor a copy of a query for each sample: what they make of
    a parameter is data, and else all that is computed from an embedding would be one layer.
    """
    if node._sequence_nr() == LEAF:
        return (variable(node),) if variable(node).requires_grad else ()
    if isinstance(node, INDEXED):
        return ()
    found: list[Tensor] = []
    for child, _ in node.next_functions:
        part = parametric(child, depth - 1) if child is not None and depth else ()
        if not part:
            return ()
        found.extend(part)
    return tuple(found)
