"""The autograd graph: walks over its nodes, and where the paths of several losses meet.

One walk goes down from all losses at once, newest node first, and keeps for every edge of the
graph the set of losses that reach it (a bit mask). It stops where every open edge is reached by all
losses: there their paths have met. Below, everything is shared, which a plain walk collects.
"""

from __future__ import annotations

import functools
import heapq
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeAlias

from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.nn.parallel.distributed import _DDPSink
from torch.utils.checkpoint import CheckpointFunction

from equipoise.autograd.vectors import parts_of, taken_apart

LEAF = (1 << 64) - 1  # the sequence number of every leaf; leaves are told by it
_SINK: type = _DDPSink._backward_cls


Users: TypeAlias = dict[Node, list[tuple[Node, int]]]
"""The users of each node: nodes, and as which of their inputs they use it."""


class SharingError(ValueError):
    """The losses do not share what was asked for."""


class Parting:
    """The walk through the heads: from the losses down to where all of their paths have met.

    A node is *pending* once it has been reached, until it is expanded: until what it was reached by
    is passed on to its inputs. A pending node is *open* while some output of it that was reached
    lacks a loss. The walk ends when none is open; what is still pending is the meeting.

    The newest pending node is expanded next, open or not. An operation is newer than all that it
    was computed from, so whoever could still bring a loss to the newest has been expanded already:
    its set of losses is final. Hence two invariants, between any two expansions:

    - every path down from a loss comes to a pending node or a leaf that has the loss in its set;
    - nothing that was expanded is at or below a pending node.

    From the first it follows that what lies below the meeting is reached by all losses and nothing
    else is shared by all; from the second, that every node is expanded once, and that the walk goes
    no deeper than the oldest node at which some loss was missing. A node that all have reached is
    expanded all the same if it is newer than an open one, because the missing loss may come through
    it: a skip connection around it leads there.

    Leaves have no age and nothing below them. They are noted, and never pending.

    Args:
        losses: The live scalars of one step.

    Attributes:
        count: How many losses there are.
        full: The bit mask of all of them.
        edges: For each node that was reached, by output, the losses that reached it.
        leaves: For each leaf that was reached, the losses that did so above the meeting.
        roots: Where the walk began.
        taken_apart: Where several of them began, each at elements of its own.
    """

    def __init__(self, losses: Sequence[Tensor]) -> None:
        self.count = len(losses)
        self.full = (1 << self.count) - 1
        self.edges: dict[Node, dict[int, int]] = {}
        self.leaves: dict[Node, int] = {}
        self._open: set[Node] = set()
        self._pending: set[Node] = set()
        self._heap: list[tuple[int, int, Node]] = []
        self._passed_over: set[Node] = set()
        parts = [parts_of(loss) for loss in losses]
        self.taken_apart = taken_apart(parts)
        roots = [(i, *edge) for i, part in enumerate(parts) for edge in part]
        self.roots = [node for _, node, _ in roots]
        for i, node, output in roots:
            self._reach(node, output, 1 << i)
        self._close()

    @property
    def meeting(self) -> list[Node]:
        """Where all losses have met: nodes whose every reached output all of them reach."""
        # The order decides in which order gradients are laid out: by age, which repeats from step
        # to step and on every process, not by the hashes of a set.
        newest_first = sorted(self._pending, key=lambda node: -node._sequence_nr())
        full = [node for node, mask in self.leaves.items() if mask == self.full]
        leaves = [node for node in full if node not in self._passed_over]
        return [*newest_first, *leaves]

    def _reach(self, node: Node, output: int, losses: int) -> None:
        number = node._sequence_nr()
        if number == LEAF:
            if variable(node).requires_grad:  # it may have been frozen since the forward pass
                self.leaves[node] = self.leaves.get(node, 0) | losses
            return
        # By output, not by node: losses that leave a node by different outputs (a split, the
        # outputs of a compiled function) have not met there.
        outputs = self.edges.setdefault(node, {})
        known = outputs.get(output, 0)
        if known | losses == known:
            return  # nothing new to pass on; without this, diamonds would be walked once per path
        outputs[output] = known | losses
        if node not in self._pending:
            self._pending.add(node)
            # Numbers are unique on one thread only; `id` keeps nodes from being compared.
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
        refuse_reentrant_checkpoint(node)
        masks = self.edges[node]
        if isinstance(node, _SINK):
            # Straight through, each output to its own input, or all would seem to meet here.
            for output, mask in masks.items():
                for child, number in inputs_of(node, output):
                    self._reach(child, number, mask)
            return
        # Which input an output is computed from, autograd does not say: each may be from all.
        losses = functools.reduce(operator.or_, masks.values())
        for child, output in inputs_of(node, 0):
            self._reach(child, output, losses)

    def antichain(self) -> list[Node]:
        """Where all losses have met, going down until no node of it lies above another.

        A skip connection into every head leaves two edges that all losses reach, one above the
        other. Gradients there would count the lower path twice.
        """
        while above := _above(self.meeting):
            self.expand(above)
        return self.meeting

    def expand(self, nodes: Collection[Node]) -> None:
        """Goes through nodes of the meeting, and on to where the losses meet below them."""
        # Newest first here as well: one may lie above another, and must not be passed on before.
        for node in sorted(nodes, key=lambda node: -node._sequence_nr()):
            self._expand(node)
        self._pending.difference_update(nodes)
        # They were expanded out of turn, so the heap still holds them.
        self._heap = [(-node._sequence_nr(), id(node), node) for node in self._pending]
        heapq.heapify(self._heap)
        self._close()

    def pass_over(self, leaves: Iterable[Node]) -> None:
        """Counts leaves as what lies above the meeting, whichever losses reach them."""
        self._passed_over.update(leaves)

    def _close(self) -> None:
        while self._open:
            self._expand(self._pop())


def inputs_of(node: Node, output: int) -> list[tuple[Node, int]]:
    """The edges that an output is computed from.

    A data-parallel wrapper that looks for unused parameters sends all outputs of the model through
    one node; each of them comes from the input at its own place.
    """
    inputs = node.next_functions
    chosen = (inputs[output],) if isinstance(node, _SINK) else inputs
    return [(child, number) for child, number in chosen if child is not None]


def _above(frontier: Sequence[Node]) -> set[Node]:
    """The nodes at or below the frontier from which another node of the frontier is reached."""
    if len(frontier) < 2:
        return set()
    members = set(frontier)
    # No path to a member leads through what is older than the oldest of them. Leaves are below all.
    floor = min(node._sequence_nr() for node in frontier)
    if any(node._sequence_nr() == LEAF for node in frontier):
        floor = -1
    above: set[Node] = set()
    for node in children_first(frontier, floor):
        for child, _ in node.next_functions:
            if child in members or child in above:
                above.add(node)
                break
    return above


def reaching(frontier: Iterable[Node], wanted: Callable[[Node], bool]) -> set[Node]:
    """The nodes at or below the frontier from which a wanted leaf is reached."""
    found: set[Node] = set()
    for node in children_first(frontier):
        if node._sequence_nr() == LEAF:
            if wanted(node):
                found.add(node)
        elif any(child in found for child, _ in node.next_functions):
            found.add(node)
    return found


def children_first(roots: Iterable[Node], floor: int = -1) -> Iterable[Node]:
    """Every node that is newer than ``floor`` and reached from the roots, inputs before users.

    A node goes onto the stack a second time, marked done, below its inputs: it is given out when
    they have been. Recursion would end at a graph of some thousand operations in a row.
    """
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


def below(frontier: Iterable[Node]) -> dict[Node, None]:
    """The leaves reached from the frontier, in the order of the walk."""
    leaves: dict[Node, None] = {}
    stack = list(frontier)
    seen: set[Node] = set(stack)
    while stack:
        node = stack.pop()
        if node._sequence_nr() == LEAF:
            if variable(node).requires_grad:
                leaves[node] = None
            continue
        refuse_reentrant_checkpoint(node)
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append(child)
    return leaves


def users_of(losses: Sequence[Tensor]) -> Users:
    """For every node below the losses, the nodes that use its outputs, and as which input."""
    users: Users = {}
    stack = [node for node, _ in edges_of(losses)]
    seen = set(stack)
    while stack:
        node = stack.pop()
        for place, (child, _) in enumerate(node.next_functions):
            if child is None:
                continue
            users.setdefault(child, []).append((node, place))
            if child not in seen:
                seen.add(child)
                stack.append(child)
    return users


def reach_of(losses: Sequence[Tensor], targets: Collection[Node]) -> int:
    """A bit mask of the losses that reach some of the targets; it looks at nothing below them.

    Args:
        losses: The live scalars of a step.
        targets: Nodes of its graph.
    """
    floor = -1 if any(t._sequence_nr() == LEAF for t in targets) else _oldest(targets)
    # As in `Parting`, newest first, so that a node is expanded with its final set of losses.
    masks: dict[Node, int] = {}
    heap: list[tuple[int, int, Node]] = []

    def reach(node: Node, mask: int) -> None:
        known = masks.get(node, 0)
        number = node._sequence_nr()
        if known | mask != known and (number == LEAF or number >= floor):
            masks[node] = known | mask
            heapq.heappush(heap, (-number, id(node), node))

    for i, loss in enumerate(losses):
        for node, _ in parts_of(loss):
            reach(node, 1 << i)
    while heap:
        node = heapq.heappop(heap)[2]
        for child, _ in node.next_functions:
            if child is not None:
                reach(child, masks[node])
    return functools.reduce(operator.or_, (masks.get(target, 0) for target in targets), 0)


def _oldest(nodes: Iterable[Node]) -> int:
    return min(node._sequence_nr() for node in nodes)


def refuse_reentrant_checkpoint(node: Node) -> None:
    """Raises at a node that hides the parameters below it."""
    if isinstance(node, CheckpointFunction._backward_cls):
        msg = (
            "Part of the model runs under `torch.utils.checkpoint.checkpoint(..., "
            "use_reentrant=True)`, which hides its parameters from the graph. "
            "Write `use_reentrant=False`."
        )
        raise SharingError(msg)


def is_leaf(node: Node) -> bool:
    """Whether a node stands for a leaf of the graph."""
    return node._sequence_nr() == LEAF


def variable(leaf: Node) -> Tensor:
    """The tensor that a leaf of the graph stands for."""
    variable: Tensor = leaf.variable  # type: ignore[attr-defined]
    return variable


def edges_of(targets: Iterable[Tensor | GradientEdge]) -> list[tuple[Node, int]]:
    """Tensors and gradient edges as pairs of a node and the number of its output."""
    found = [get_gradient_edge(t) if isinstance(t, Tensor) else t for t in targets]
    return [(edge.node, edge.output_nr) for edge in found]
