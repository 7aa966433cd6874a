"""What the losses of a step share: parameters, the last shared layer, the representation."""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from equipoise.autograd.graph import (
    LEAF,
    Parting,
    SharingError,
    below,
    edges_of,
    inputs_of,
    is_leaf,
    reaching,
    variable,
)
from equipoise.autograd.inputs import watchable
from equipoise.autograd.layers import newest_layer, parametric

UNTRAINED = (
    " Where their shared part is under `requires_grad_(False)` on purpose, there is nothing to "
    "balance: write `sum(losses).backward()`."
)


@dataclass(frozen=True)
class Parameters:
    """The leaves of a step's graph, told apart by which losses reach them.

    Attributes:
        shared: Parameters that at least two losses reach (with one loss: all that it reaches).
        own: For each loss, the leaves that it alone reaches.
        inputs: Other leaves shared by losses: the coordinates of a physics-informed network (see
            `watchable`), the critic that a generator's step does not train. They get a gradient,
            but are not watched.
        apart: The losses that reach none of the shared parameters.
        reach: For each leaf, a bit mask of the losses that reach it.
    """

    shared: tuple[Tensor, ...]
    own: tuple[tuple[Tensor, ...], ...]
    inputs: tuple[Tensor, ...]
    apart: tuple[int, ...] = ()
    reach: Mapping[Tensor, int] = field(default_factory=dict)

    @property
    def everything(self) -> tuple[Tensor, ...]:
        """All leaves that some loss reaches."""
        return (*self.shared, *self.inputs, *(leaf for leaves in self.own for leaf in leaves))


def parameters(
    losses: Sequence[Tensor] | Parting, trained: Collection[Tensor] | None = None
) -> Parameters:
    """Tells the leaves of the graph apart by which losses reach them.

    Args:
        losses: The live scalar losses of one step, or where they part.
        trained: What is trained; ``None``: see `watchable`.

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
    return told_apart(reach(parting), parting.count, parting.roots, trained)


def reach(losses: Sequence[Tensor] | Parting) -> dict[Tensor, int]:
    """The leaves of a step's graph, each with the set of losses that reach it, as a bit mask.

    Args:
        losses: The live scalar losses of one step, or where they part.
    """
    parting = _parting(losses)
    # Above the meeting the walk has noted who reaches a leaf; below, everybody does. A leaf on both
    # sides (tied weights) is everybody's, so the second takes precedence.
    masks = dict(parting.leaves)
    masks.update(dict.fromkeys(below(parting.meeting), parting.full))
    return {variable(node): mask for node, mask in masks.items()}


def told_apart(
    reached: Mapping[Tensor, int],
    count: int,
    roots: Iterable[Node],
    trained: Collection[Tensor] | None = None,
) -> Parameters:
    """Tells leaves apart by which losses reach them.

    Args:
        reached: Each leaf with the set of losses that reach it, as a bit mask.
        count: How many losses there are.
        roots: The nodes of the losses that this process has.
        trained: What is trained; ``None``: see `watchable`.
    """
    single = count == 1  # then all that it reaches is what there is to watch
    shared = [leaf for leaf, mask in reached.items() if single or mask & (mask - 1)]
    own = [
        tuple(leaf for leaf, mask in reached.items() if mask == 1 << i and not single)
        for i in range(count)
    ]
    if trained is None:
        watched = watchable(shared, roots)
    else:
        watched = [leaf for leaf in shared if leaf in trained]
    kept = set(watched)
    inputs = tuple(leaf for leaf in shared if leaf not in kept)
    apart = not_reaching(watched, reached, count)
    return Parameters(tuple(watched), tuple(own), inputs, apart, reached)


def not_reaching(
    targets: Iterable[Tensor], reach: Mapping[Tensor, int], count: int
) -> tuple[int, ...]:
    """The losses that reach none of the targets.

    Args:
        targets: Leaves of the graph.
        reach: For each leaf, a bit mask of the losses that reach it.
        count: How many losses there are.
    """
    reached = functools.reduce(operator.or_, (reach.get(target, 0) for target in targets), 0)
    return tuple(i for i in range(count) if not reached >> i & 1)


def company(found: Parameters, count: int) -> tuple[int, ...]:
    """The losses to compare at one place, where not all of them ever meet.

    Those that reach the parameter which most of them reach (of several, those that have the most
    elements in common). Each other one may share something with one of them, as a penalty on a head
    does with the loss of that head, but no more.

    Args:
        found: What the losses share.
        count: How many losses there are.

    Returns:
        Their positions; none where no two losses share a parameter, or others have as much a claim.
    """
    sizes: dict[int, int] = {}
    for leaf in found.shared:
        mask = found.reach[leaf]
        sizes[mask] = sizes.get(mask, 0) + leaf.numel()
    if not sizes:
        return ()
    chosen = max(sizes, key=lambda mask: (mask.bit_count(), sizes[mask]))
    for i in range(count):
        if chosen >> i & 1:
            continue
        others = functools.reduce(operator.or_, (m for m in sizes if m >> i & 1), 0) & chosen
        if others.bit_count() > 1:
            return ()
    return tuple(i for i in range(count) if chosen >> i & 1)


def of_model(losses: Sequence[Tensor]) -> list[Tensor]:
    """The leaves of a step's graph that belong to the model, not to this process's batch.

    Args:
        losses: The live scalar losses of one step.
    """
    parting = _parting(losses)
    return watchable(reach(parting), parting.roots)


def representation(
    losses: Sequence[Tensor] | Parting,
    names: Sequence[str] | None = None,
    trained: Collection[Tensor] | None = None,
) -> tuple[GradientEdge, ...]:
    """The shared representation: the edges of the graph at which the paths of the losses part.

    Every loss reaches each of them, none lies above another, and what lies below is reached through
    them alone. The one exception is a parameter below that a head uses as well (tied weights).

    Args:
        losses: The live scalar losses of one step, or where they part: it then goes down to there.
        names: What they are called in error messages; default their positions.
        trained: What is trained; shared parameters that are not stay above the representation.

    Returns:
        Gradient edges, which ``torch.autograd.grad`` takes as inputs.

    Raises:
        SharingError: If the losses never all meet.
    """
    parting = _parting(losses)
    if trained is not None:
        _go_below_untrained(parting, trained)
    _go_below_taken_apart(parting)
    frontier = parting.antichain()
    if not frontier:
        msg = "The losses never all meet in the graph, so there is no shared representation."
        raise SharingError(msg + _who_meets_whom(parting, names))
    # The outputs of a node that were reached: others have no gradient. A leaf has only one.
    newest_first = sorted(frontier, key=lambda node: -node._sequence_nr())
    return tuple(
        torch.autograd.graph.GradientEdge(node, output)
        for node in newest_first
        for output in sorted(parting.edges.get(node, {0: 0}))
    )


def _go_below_taken_apart(parting: Parting) -> None:
    """Moves the meeting below a matrix of which each loss has columns of its own.

    Gradients at the matrix have nothing in common, whatever the losses share: its Gramian is
    diagonal. The layer that made it is one head for each column, in one operation. Where that layer
    is the whole model, nothing lies below, and the matrix is what there is.
    """

    def made_of_data(node: Node) -> bool:
        children = [child for child, _ in node.next_functions if child is not None]
        return any(not is_leaf(child) and not parametric(child) for child in children)

    apart = {node for node in parting.taken_apart if made_of_data(node)}
    while going := [node for node in parting.meeting if node in apart]:
        parting.expand(going)
        while weights := [
            node for node in parting.meeting if not is_leaf(node) and parametric(node)
        ]:
            parting.expand(weights)
        parting.pass_over(node for node, mask in parting.leaves.items() if mask == parting.full)


def _go_below_untrained(parting: Parting, trained: Collection[Tensor]) -> None:
    """Moves the meeting below parameters that all losses share, but that nobody trains.

    The losses of a generator's step meet in the critic, if two of them look through it. What they
    share of the generator begins at its output. The way down ends at the first operation with
    parameters that are trained, for these have to stay below the representation.
    """

    def untrained(leaf: Tensor) -> bool:
        return isinstance(leaf, nn.Parameter) and leaf not in trained

    def on_the_way(node: Node) -> bool:
        children = [child for child, _ in node.next_functions if child is not None]
        used = [leaf for child in children for leaf in parametric(child)]
        return not any(leaf in trained for leaf in used)

    parting.pass_over(node for node in parting.leaves if untrained(variable(node)))
    above = reaching(parting.meeting, lambda leaf: untrained(variable(leaf)))
    while going := [node for node in parting.meeting if node in above and on_the_way(node)]:
        parting.expand(going)
        parting.pass_over(node for node in parting.leaves if untrained(variable(node)))


def heads(parting: Parting) -> tuple[tuple[Tensor, ...], ...] | None:
    """What lies above the shared representation.

    Args:
        parting: Gone down to the representation.

    Returns:
        For each loss, the leaves that it reaches around the representation; `None` where some of
        them lie below it as well (tied weights).
    """
    frontier = set(parting.meeting)
    above = {node: mask for node, mask in parting.leaves.items() if node not in frontier}
    if not above.keys().isdisjoint(below(parting.meeting)):
        return (
            None  # a pass from the representation on would miss the part that comes through heads
        )
    return tuple(
        tuple(variable(node) for node, mask in above.items() if mask >> i & 1)
        for i in range(parting.count)
    )


def last_shared(
    losses: Sequence[Tensor] | Parting,
    names: Sequence[str] | None = None,
    trained: Collection[Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """The last shared layer: the parameters of the newest operation that all losses share.

    An operation's parameters are those that reach it untouched by data: directly, or through
    operations on parameters alone (a transpose, a cast, a weight normalisation). An operation with
    a weight of two or more dimensions is preferred to one with only scales and biases.

    Args:
        losses: The live scalar losses of one step, or where they part.
        names: What they are called in error messages; default their positions.
        trained: What is trained; other layers are passed.

    Returns:
        The parameters of that layer.

    Raises:
        SharingError: If the losses never all meet, or share no parameter.
    """
    parting = _parting(losses)
    layer = newest_layer(parting.meeting, trained)
    if not layer:
        msg = (
            "The losses share no parameter that requires a gradient: there is no last shared layer."
        )
        raise SharingError(
            msg + (UNTRAINED if parting.meeting else _who_meets_whom(parting, names))
        )
    return layer


def _parting(losses: Sequence[Tensor] | Parting) -> Parting:
    return losses if isinstance(losses, Parting) else Parting(losses)


def _who_meets_whom(parting: Parting, names: Sequence[str] | None) -> str:
    names = list(map(str, range(parting.count))) if names is None else names
    masks = {mask for outputs in parting.edges.values() for mask in outputs.values()}
    masks.update(parting.leaves.values())
    met = [mask for mask in masks if mask & (mask - 1)]
    if not met:
        every = ", ".join(map(repr, names))
        return (
            f" No two of {every} share anything that requires a gradient; check that they come "
            f"from one model.{UNTRAINED}"
        )
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
    # Edges, not nodes: a path may enter the node of a target by another of its outputs.
    cut = set(edges_of(targets))
    stack = [edge for edge in edges_of(losses) if edge not in cut]
    seen = set(stack)
    leaves: dict[Tensor, None] = {}
    while stack:
        node, output = stack.pop()
        if node._sequence_nr() == LEAF and variable(node).requires_grad:
            leaves[variable(node)] = None
        for edge in inputs_of(node, output):
            if edge not in cut and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return list(leaves)
