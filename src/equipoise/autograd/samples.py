"""Which places of the graph are stacks of samples, of which each process has its own.

Autograd knows shapes and leaves, no data: an operand that needs no gradient leaves a gap in the
graph. A place above which no gap lies computes from parameters alone, and is the same on every
process, unless it was repeated for each sample. Of places with data below, a stack of samples has
as many entries as the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from equipoise.autograd.graph import LEAF, SharingError, edges_of, variable
from equipoise.autograd.targets import Target, shape_of

_one = torch.zeros(1, requires_grad=True)
_REPEATING = (type(_one.expand(2).grad_fn), type(_one.repeat(2).grad_fn))


def same_everywhere(targets: Sequence[Target]) -> list[bool]:
    """Whether each target is the same on every process; else it is a stack of samples.

    Args:
        targets: Where the losses of one step part.

    Raises:
        SharingError: If that cannot be told.
    """
    nodes = [node for node, _ in edges_of(targets)]
    shapes = [shape_of(target) for target in targets]
    with_data = [_has_data(node) for node in nodes]
    sizes = {shape[0] for shape, data in zip(shapes, with_data, strict=True) if data and shape}
    if len(sizes) > 1:
        raise SharingError(_cannot_tell(shapes))
    return [
        not shape or not (data or _repeated(node, shape[0], sizes))
        for node, shape, data in zip(nodes, shapes, with_data, strict=True)
    ]


def _has_data(node: Node) -> bool:
    """Whether something below a node is no parameter."""
    return any(
        not isinstance(variable(below), nn.Parameter)
        if below._sequence_nr() == LEAF
        else _has_gap(below)
        for below in _down_from(node)
    )


def _has_gap(node: Node) -> bool:
    """Whether an operation takes something that needs no gradient, and is no plain number."""
    operands = ("_saved_self", "_saved_other")
    gaps = [place for place, (child, _) in enumerate(node.next_functions) if child is None]
    return any(
        place >= len(operands) or not _is_number(getattr(node, operands[place], None))
        for place in gaps
    )


def _is_number(operand: object) -> bool:
    return isinstance(operand, Tensor) and operand.ndim == 0


def _repeated(node: Node, count: int, sizes: set[int]) -> bool:
    """Whether parameters were repeated once for each sample."""
    return count in sizes and any(isinstance(below, _REPEATING) for below in _down_from(node))


def _down_from(node: Node) -> list[Node]:
    found = {node: None}
    stack = [node]
    while stack:
        for child, _ in stack.pop().next_functions:
            if child is not None and child not in found:
                found[child] = None
                stack.append(child)
    return list(found)


def _cannot_tell(shapes: Sequence[tuple[int, ...]]) -> str:
    return (
        f"The representation has parts of the shapes {', '.join(map(str, shapes))}, and on several "
        "processes it cannot be told which of them are stacks of samples. Write wrt='shared' or "
        "wrt='last_shared', or name one tensor of the graph."
    )
