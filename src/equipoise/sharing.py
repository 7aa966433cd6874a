"""Reads the autograd graph: which parameters the losses share, and where their paths part.

One walk goes down from all losses at once, newest node first, and keeps for every edge of the
graph the set of losses that reach it (a bit mask). It stops where every open edge is reached by all
losses: those edges are the shared representation. Below them everything is shared, which a plain
walk without masks collects.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.parallel.distributed import _DDPSink
from torch.utils.checkpoint import CheckpointFunction

if TYPE_CHECKING:
    from torch.autograd.graph import GradientEdge, Node

_LEAF = (1 << 64) - 1  # the sequence number of every leaf; leaves are told by it
_SINK: type = _DDPSink._backward_cls
_STACK, _UNBIND = (
    type(made.grad_fn)
    for made in (
        torch.stack([torch.zeros((), requires_grad=True)]),
        torch.zeros(1, requires_grad=True).unbind()[0],
    )
)


class SharingError(ValueError):
    """The losses do not share what was asked for."""


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


class _Edge(NamedTuple):
    node: Node
    output: int


class _Parting:
    """The walk through the heads: from the losses down to where all of their paths have met."""

    def __init__(self, losses: Sequence[Tensor]) -> None:
        self.full = (1 << len(losses)) - 1
        self.edges: dict[Node, dict[int, int]] = {}
        self.leaves: dict[Node, int] = {}
        self._open: set[Node] = set()
        self._pending: set[Node] = set()
        self._heap: list[tuple[int, int, Node]] = []
        for i, loss in enumerate(losses):
            node, output = _root(loss)
            self._reach(node, output, 1 << i)
        while self._open:
            self._expand(self._pop())

    @property
    def meeting(self) -> list[Node]:
        """Where all losses have met: nodes whose every reached output all of them reach."""
        newest_first = sorted(self._pending, key=lambda node: -node._sequence_nr())
        leaves = [node for node, mask in self.leaves.items() if mask == self.full]
        return [*newest_first, *leaves]

    def _reach(self, node: Node, output: int, losses: int) -> None:
        number = node._sequence_nr()
        if number == _LEAF:
            self.leaves[node] = self.leaves.get(node, 0) | losses
            return
        outputs = self.edges.setdefault(node, {})
        known = outputs.get(output, 0)
        if known | losses == known:
            return
        outputs[output] = known | losses
        if node not in self._pending:
            self._pending.add(node)
            heapq.heappush(self._heap, (-number, id(node), node))
        if all(mask == self.full for mask in outputs.values()):
            self._open.discard(node)
        else:
            self._open.add(node)

    def _pop(self) -> Node:
        node = heapq.heappop(self._heap)[2]
        self._pending.discard(node)
        self._open.discard(node)
        return node

    def _expand(self, node: Node) -> None:
        _refuse_reentrant_checkpoint(node)
        masks = self.edges[node]
        if isinstance(node, _SINK):
            for output, mask in masks.items():
                for child, number in _inputs(node, output):
                    self._reach(child, number, mask)
            return
        losses = functools.reduce(operator.or_, masks.values())
        for child, output in _inputs(node, 0):
            self._reach(child, output, losses)

    def antichain(self) -> list[Node]:
        """Where all losses have met, going down until no node of it lies above another.

        A skip connection into every head leaves two edges that all losses reach, one above the
        other. Gradients there would count the lower path twice.
        """
        while above := _above(self.meeting):
            for node in sorted(above, key=lambda node: -node._sequence_nr()):
                self._expand(node)
            self._pending -= above
            self._heap = [(-node._sequence_nr(), id(node), node) for node in self._pending]
            heapq.heapify(self._heap)
            while self._open:
                self._expand(self._pop())
        return self.meeting


def _inputs(node: Node, output: int) -> list[tuple[Node, int]]:
    """The edges that an output is computed from.

    A data-parallel wrapper that looks for unused parameters sends all outputs of the model through
    one node; each of them comes from the input at its own place.
    """
    inputs = node.next_functions
    chosen = (inputs[output],) if isinstance(node, _SINK) else inputs
    return [(child, number) for child, number in chosen if child is not None]


def _root(loss: Tensor) -> tuple[Node, int]:
    """Where the walk from a loss begins.

    Losses stacked into one tensor and taken apart again are followed each on its own: autograd
    knows the two operations only as places where all of them meet.
    """
    edge = get_gradient_edge(loss)
    if isinstance(edge.node, _UNBIND):
        stack = edge.node.next_functions[0][0]
        if stack is not None and isinstance(stack, _STACK):
            node, output = stack.next_functions[edge.output_nr]
            if node is not None:
                return node, output
    return edge.node, edge.output_nr


def _above(frontier: Sequence[Node]) -> set[Node]:
    """The nodes at or below the frontier from which another node of the frontier is reached."""
    if len(frontier) < 2:
        return set()
    members = set(frontier)
    floor = min(node._sequence_nr() for node in frontier)
    if any(node._sequence_nr() == _LEAF for node in frontier):
        floor = -1
    above: set[Node] = set()
    for node in _children_first(frontier, floor):
        for child, _ in node.next_functions:
            if child in members or child in above:
                above.add(node)
                break
    return above


def _children_first(roots: Iterable[Node], floor: int = -1) -> Iterable[Node]:
    """Every node that is newer than ``floor`` and reached from the roots, inputs before users."""
    seen: set[Node] = set()
    stack = [(node, False) for node in roots]
    while stack:
        node, done = stack.pop()
        if done:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend(
                (child, False)
                for child, _ in node.next_functions
                if child is not None and child not in seen and child._sequence_nr() > floor
            )


def _below(frontier: Iterable[Node]) -> dict[Node, None]:
    """The leaves reached from the frontier, in the order of the walk."""
    leaves: dict[Node, None] = {}
    stack = list(frontier)
    seen: set[Node] = set(stack)
    while stack:
        node = stack.pop()
        if node._sequence_nr() == _LEAF:
            leaves[node] = None
            continue
        _refuse_reentrant_checkpoint(node)
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append(child)
    return leaves


def _refuse_reentrant_checkpoint(node: Node) -> None:
    if isinstance(node, CheckpointFunction._backward_cls):
        msg = (
            "Part of the model runs under `torch.utils.checkpoint.checkpoint(..., "
            "use_reentrant=True)`, which hides its parameters from the graph. "
            "Write `use_reentrant=False`."
        )
        raise SharingError(msg)


def _is_compiled(node: Node) -> bool:
    function = getattr(type(node), "_forward_cls", None)
    return hasattr(function, "compiled_fw")


def is_compiled(losses: Sequence[Tensor]) -> bool:
    """Whether some part of the graph is a compiled function."""
    stack = [node for node, _ in _edges(losses)]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if _is_compiled(node):
            return True
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append(child)
    return False


def refuse_parting_in_compiled(losses: Sequence[Tensor], instead: str) -> None:
    """Raises where the graph cannot tell what is shared, as the paths part in a compiled function.

    Args:
        losses: The live scalar losses of one step.
        instead: What the user may write in place of it.

    Raises:
        SharingError: If the losses leave a compiled function by different outputs.
    """
    if len(losses) < 2:
        return
    parting = _Parting(losses)
    for node, outputs in parting.edges.items():
        if len(set(outputs.values())) > 1 and _is_compiled(node):
            msg = (
                "The paths of the losses part inside a compiled function, where shared parameters "
                f"and heads cannot be told apart. Pass {instead}, or compile the shared part "
                "alone: `model.trunk.compile()`."
            )
            raise SharingError(msg)


def _variable(leaf: Node) -> Tensor:
    variable: Tensor = leaf.variable  # type: ignore[attr-defined]
    return variable


def parameters(losses: Sequence[Tensor]) -> Parameters:
    """Tells the leaves of the graph apart by which losses reach them.

    Args:
        losses: The live scalar losses of one step.

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
    parting = _Parting(losses)
    masks = dict(parting.leaves)
    masks.update(dict.fromkeys(_below(parting.meeting), parting.full))
    leaves = {_variable(node): mask for node, mask in masks.items()}
    single = len(losses) == 1
    shared = [leaf for leaf, mask in leaves.items() if single or mask & (mask - 1)]
    own = [
        tuple(leaf for leaf, mask in leaves.items() if mask == 1 << i and not single)
        for i in range(len(losses))
    ]
    watched = [leaf for leaf in shared if isinstance(leaf, nn.Parameter)] or shared
    kept = set(watched)
    inputs = tuple(leaf for leaf in shared if leaf not in kept)
    return Parameters(tuple(watched), tuple(own), inputs)


def representation(
    losses: Sequence[Tensor], names: Sequence[str] | None = None
) -> tuple[GradientEdge, ...]:
    """The shared representation: the edges of the graph at which the paths of the losses part.

    Every loss reaches each of them, none lies above another, and what lies below is reached through
    them alone. The one exception is a parameter below that a head uses as well (tied weights).

    Args:
        losses: The live scalar losses of one step.
        names: What they are called in error messages; default their positions.

    Returns:
        Gradient edges, which ``torch.autograd.grad`` takes as inputs.

    Raises:
        SharingError: If the losses never all meet.
    """
    parting = _Parting(losses)
    frontier = parting.antichain()
    if not frontier:
        msg = "The losses never all meet in the graph, so there is no shared representation."
        raise SharingError(msg + _who_meets_whom(parting, _named(losses, names)))
    newest_first = sorted(frontier, key=lambda node: -node._sequence_nr())
    return tuple(
        torch.autograd.graph.GradientEdge(node, output)
        for node in newest_first
        for output in sorted(parting.edges.get(node, {0: 0}))
    )


def last_shared(losses: Sequence[Tensor], names: Sequence[str] | None = None) -> tuple[Tensor, ...]:
    """The last shared layer: the parameters of the newest operation that all losses share.

    An operation's parameters are those that reach it untouched by data: directly, or through
    operations on parameters alone (a transpose, a cast, a weight normalisation). An operation with
    a weight of two or more dimensions is preferred to one with only scales and biases.

    Args:
        losses: The live scalar losses of one step.
        names: What they are called in error messages; default their positions.

    Returns:
        The parameters of that layer.

    Raises:
        SharingError: If the losses never all meet, or share no parameter.
    """
    parting = _Parting(losses)
    fallback: tuple[Tensor, ...] = ()
    for layer in map(_without_inputs, _layers(parting.meeting)):
        # An input that requires gradients is a leaf too, but no layer if there are any.
        if _has_weight(layer) and isinstance(layer[0], nn.Parameter):
            return layer
        if not fallback or (_has_weight(layer) and not _has_weight(fallback)):
            fallback = layer
    if not fallback:
        msg = "The losses share no parameter, so there is no last shared layer."
        raise SharingError(msg + _who_meets_whom(parting, _named(losses, names)))
    return fallback


def _layers(frontier: Sequence[Node]) -> Iterable[tuple[Tensor, ...]]:
    """The layers at and below the frontier, newest first."""
    seen = set(frontier)
    order = itertools.count()
    heap = [(-node._sequence_nr(), next(order), node) for node in frontier]
    heapq.heapify(heap)
    while heap:
        number, _, node = heapq.heappop(heap)
        if -number == _LEAF:
            yield (_variable(node),)
            continue
        _refuse_reentrant_checkpoint(node)
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
    if node._sequence_nr() == _LEAF:
        return (_variable(node),)
    found: list[Tensor] = []
    for child, _ in node.next_functions:
        part = _parametric(child, depth - 1) if child is not None and depth else ()
        if not part:
            return ()
        found.extend(part)
    return tuple(found)


def _named(losses: Sequence[Tensor], names: Sequence[str] | None) -> list[str]:
    return [str(i) for i in range(len(losses))] if names is None else list(names)


def _who_meets_whom(parting: _Parting, names: Sequence[str]) -> str:
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
    return [_variable(node) for node in _below(node for node, _ in _edges(targets))]


def leaves_around(
    losses: Sequence[Tensor], targets: Iterable[Tensor | GradientEdge]
) -> list[Tensor]:
    """The leaves that losses reach on paths through none of the targets."""
    cut = set(_edges(targets))
    stack = [edge for edge in _edges(losses) if edge not in cut]
    seen = set(stack)
    leaves: dict[Tensor, None] = {}
    while stack:
        node, output = stack.pop()
        if node._sequence_nr() == _LEAF:
            leaves[_variable(node)] = None
        for edge in _inputs(node, output):
            if edge not in cut and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return list(leaves)


def _edges(targets: Iterable[Tensor | GradientEdge]) -> list[tuple[Node, int]]:
    found = [get_gradient_edge(t) if isinstance(t, Tensor) else t for t in targets]
    return [(edge.node, edge.output_nr) for edge in found]
