"""Losses that come in one tensor, told apart again.

A model may fill ``zeros(3)`` in place, stack its losses and multiply them with gains, or reduce an
``[N, T]`` matrix over its samples. To autograd each such operation is one node, at which the paths
of all losses meet, though each of its elements belongs to one of them. Taken for what the losses
share, everything below would be: the heads as well, and a Gramian at the vector is the identity.

So from each loss a look goes down, element by element, as far as operations only move, reduce, or
transform elements one by one. It carries along which elements the loss is made of. Where these are
known without it, no operation is run; where an operation moves elements, its backward function is
called with ones at the elements and zeros elsewhere, and says by itself where they come from. (That
of a copy into a slice shows no other way which slice it was.) For losses that are scalars to begin
with, nothing is called at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

from equipoise.autograd.operations import JOINS, MAPS, PARTS, REDUCTIONS, Edge

_LOOKED_THROUGH = (*MAPS, *PARTS, *JOINS, *REDUCTIONS)


def parts_of(loss: Tensor) -> dict[Edge, Tensor | None]:
    """Where the walk from a loss begins: what it is made of, if it was an element of a tensor.

    Args:
        loss: A live scalar.

    Returns:
        Edges of the graph, each with ones at the elements that the loss is made of; the edge of the
        loss itself, with ``None``, unless it is a part of something.
    """
    start = get_gradient_edge(loss)
    if not isinstance(start.node, _LOOKED_THROUGH):
        return {(start.node, start.output_nr): None}
    found: dict[Edge, Tensor | None] = {}
    is_part = False
    stack = [(start.node, start.output_nr, torch.ones_like(loss, requires_grad=False))]
    while stack:
        node, output, elements = stack.pop()
        below = _sources(node, output, elements)
        if below is None:
            before = found.get((node, output))
            found[node, output] = elements if before is None else before + elements
            continue
        is_part = is_part or any(not bool(of.all()) for _, _, of in below if of.numel() > 1)
        stack.extend(below)
    # A sum of scalars is left as it is: where its terms meet is for the walk to find.
    return found if is_part and found else {(start.node, start.output_nr): None}


def taken_apart(parts: Sequence[Mapping[Edge, Tensor | None]]) -> set[Node]:
    """The nodes of which several losses have elements, each its own: they have not met there.

    Args:
        parts: What each loss is made of: see `parts_of`.
    """
    elements: dict[Edge, list[Tensor]] = {}
    for part in parts:
        for edge, own in part.items():
            if own is not None:
                elements.setdefault(edge, []).append(own)
    return {
        node
        for (node, _), of in elements.items()
        if len(of) > 1 and bool((torch.stack(of) != 0).sum(dim=0).le(1).all())
    }


def _sources(node: Node, output: int, elements: Tensor) -> list[tuple[Node, int, Tensor]] | None:
    """The elements that some elements of an output are made of; `None` if the look ends here."""
    children = [(child, number) for child, number in node.next_functions if child is not None]
    # All of a tensor: that is no vector of losses.
    if elements.numel() > 1 and bool(elements.all()):
        return None
    if not isinstance(node, _LOOKED_THROUGH):
        return None
    if isinstance(node, MAPS):
        shapes = [tuple(child._input_metadata[n].shape) for child, n in children]
        if all(shape == tuple(elements.shape) for shape in shapes):
            return [(child, n, elements) for child, n in children]
        # A loss function that also reduces: a scalar made of predictions, not of losses.
        if any(math.prod(shape) > elements.numel() for shape in shapes):
            return None
    return _called(node, output, elements)


def _called(node: Node, output: int, elements: Tensor) -> list[tuple[Node, int, Tensor]]:
    function: Any = node  # autograd's nodes can be called, but declare it nowhere
    seeds: list[Tensor | None] = [None] * len(node._input_metadata)
    seeds[output] = elements
    with torch.no_grad():
        made = function(*seeds)
    made = made if isinstance(made, tuple) else (made,)
    pairs = zip(node.next_functions, made, strict=True)
    live = [(c, n, g) for (c, n), g in pairs if c is not None and g is not None]
    # Ones again, so that nothing underflows on the way; the sign of a gain plays no part.
    return [(c, n, (g != 0).to(g.dtype)) for c, n, g in live if bool((g != 0).any())]
