"""`wrt` made into what gradients are taken with respect to."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from equipoise.autograd import shared
from equipoise.autograd.compiled import refuse_parting_in_compiled
from equipoise.autograd.graph import Parting, SharingError, edges_of, is_leaf, reach_of
from equipoise.words import brief

Named = TypeVar("Named")
Target: TypeAlias = Tensor | GradientEdge
"""What gradients are taken with respect to."""
Name: TypeAlias = Literal["shared", "last_shared", "representation"]
"""A place in the graph that has a name."""
Wrt: TypeAlias = Name | nn.Module | Tensor | Iterable[Tensor]
"""Where gradients are watched: a named choice, a module, parameter(s), or a tensor of the graph."""


class Held(Generic[Named]):
    """Keeps what a user named: a copy of what keeps it names the same tensors, not copies of them.

    Nor does `torch.nn.Module` take it for a submodule or a parameter.

    Args:
        named: What to keep; what can be gone through only once is gone through now.
    """

    def __init__(self, named: Named) -> None:
        kept = tuple(named) if isinstance(named, Iterator) else named
        self.named = cast("Named", kept)

    def __deepcopy__(self, memo: dict[int, object]) -> Held[Named]:
        """Itself."""
        return self

    def unless(self, other: Named | None) -> Named:
        """What was named once, unless one call names something else."""
        return self.named if other is None else other


_UNREACHED = "No loss reaches what `wrt` names; pass parameters that the losses depend on."
_NO_TARGET = "`wrt` names no tensor to watch; got {}. Pass a module or parameters."


@dataclass(frozen=True)
class Watched:
    """What a step's gradients are taken with respect to.

    Attributes:
        targets: Tensors or edges of the graph.
        leaves: The leaves of the graph when the targets hold all that losses share: then the rows
            of gradients are all that is needed to write ``.grad``. Otherwise ``None``.
        heads: For each loss, the leaves above the targets when these are the representation: then
            one pass from there on with the combined row is all that is needed beside the rows.
            Otherwise ``None``.
        apart: The losses that reach none of the targets.
    """

    targets: tuple[Target, ...]
    leaves: shared.Parameters | None = None
    heads: tuple[tuple[Tensor, ...], ...] | None = None
    apart: tuple[int, ...] = ()

    @property
    def sizes(self) -> list[int]:
        """The number of elements of each target."""
        return [numel(target) for target in self.targets]


def numel(target: Target) -> int:
    """How many real numbers the gradient of a target has; two for each complex element."""
    if isinstance(target, Tensor):
        return target.numel() * (2 if target.is_complex() else 1)
    edge = _edge(target)
    return math.prod(edge.shape) * (2 if edge.dtype.is_complex else 1)


def shape_of(target: Target) -> tuple[int, ...]:
    """The shape of a target."""
    return tuple((target if isinstance(target, Tensor) else _edge(target)).shape)


def _edge(edge: GradientEdge) -> Tensor:
    """What autograd knows of the tensor at an edge: an object with its shape and dtype."""
    metadata: Tensor = edge.node._input_metadata[edge.output_nr]
    return metadata


def like(target: Target, flat: Tensor) -> Tensor:
    """A flat gradient, of `numel` real numbers, in the shape and dtype of its target."""
    of = target if isinstance(target, Tensor) else _edge(target)
    if of.dtype.is_complex:
        flat = torch.view_as_complex(flat.view(-1, 2))
    shaped = flat.view(tuple(of.shape))
    return shaped if shaped.dtype == of.dtype else shaped.to(of.dtype)


def flat(gradient: Tensor) -> Tensor:
    """A gradient as one row of real numbers, in the order of its elements."""
    if gradient.is_complex():
        gradient = torch.view_as_real(gradient.resolve_conj())
    return gradient.reshape(-1)


def refuse_sparse(gradients: Iterable[Tensor | None]) -> None:
    """Raises a ``TypeError`` at a sparse gradient, which cannot be compared with dense ones."""
    for gradient in gradients:
        if gradient is not None and gradient.layout != torch.strided:
            msg = (
                f"The gradient of a parameter of shape {tuple(gradient.shape)} is sparse, and only "
                "dense ones can be compared. Build its layer with `sparse=False`, or name with "
                "`wrt` the other parameters to watch."
            )
            raise TypeError(msg)


def watch(
    losses: Sequence[Tensor],
    wrt: Wrt,
    names: Sequence[str] | None = None,
    trained: Collection[Tensor] | None = None,
) -> Watched:
    """Finds what ``wrt`` means in the graph of these losses.

    Args:
        losses: The live scalars of one step.
        wrt: ``"shared"``, ``"last_shared"``, ``"representation"``, a module, a parameter, an
            iterable of parameters, or a tensor of the graph.
        names: What the losses are called in error messages; default their positions.
        trained: The tensors that this step trains; other leaves that losses share are not watched,
            unless ``wrt`` names them. ``None``: see `watchable`.

    Returns:
        The targets.

    Raises:
        SharingError: If the losses share nothing, or no loss reaches what was named.
        TypeError: If ``wrt`` is none of these.
    """
    if isinstance(wrt, str):
        return _watch_named(losses, wrt, names, trained)
    targets = listed(wrt)
    if all(target.is_leaf for target in targets):
        return watch_leaves(targets, shared.parameters(losses, trained), len(losses))
    reached = reach_of(losses, [node for node, _ in edges_of(targets)])
    if not reached:
        raise SharingError(_UNREACHED)
    return Watched(targets, apart=tuple(i for i in range(len(losses)) if not reached >> i & 1))


def listed(wrt: nn.Module | Tensor | Iterable[Tensor]) -> tuple[Tensor, ...]:
    """The tensors that ``wrt`` names where it is no name itself.

    Args:
        wrt: A module, of which the parameters that are trained are listed, or tensor(s).

    Raises:
        TypeError: If it is none of these.
    """
    if isinstance(wrt, nn.Module):
        wrt = [parameter for parameter in wrt.parameters() if parameter.requires_grad]
    if not isinstance(wrt, Tensor | Iterable):
        raise TypeError(_NO_TARGET.format(brief(wrt)))
    targets = (wrt,) if isinstance(wrt, Tensor) else tuple(wrt)
    if not targets or not all(isinstance(target, Tensor) for target in targets):
        raise TypeError(_NO_TARGET.format(brief(targets)))
    return targets


def _watch_named(
    losses: Sequence[Tensor],
    wrt: str,
    names: Sequence[str] | None,
    trained: Collection[Tensor] | None,
) -> Watched:
    if wrt not in ("shared", "last_shared", "representation"):
        msg = (
            f"`wrt` is {brief(wrt)}; write 'shared', 'last_shared', 'representation', a module, "
            "parameters, or a tensor of the graph."
        )
        raise TypeError(msg)
    parting = Parting(losses)
    refuse_parting_in_compiled(parting, "wrt=<the part of the model that is shared>")
    if wrt == "shared":
        return _watch_shared(parting, names, trained)
    # Where not all meet above the leaves the whole graph has been walked: what is left is to count.
    if all(is_leaf(node) for node in parting.meeting):
        found = shared.parameters(parting, trained)
        group = shared.company(found, parting.count)
        if group and len(group) < len(losses):
            _refuse_unwatched(found, names, trained)
            return _watch_among(losses, group, wrt, names, trained)
    if wrt == "last_shared":
        return Watched(shared.last_shared(parting, names, trained))
    edges = shared.representation(parting, names, trained)
    return Watched(edges, heads=shared.heads(parting))


def _watch_shared(
    parting: Parting, names: Sequence[str] | None, trained: Collection[Tensor] | None
) -> Watched:
    leaves = shared.parameters(parting, trained)
    if not leaves.shared:
        called = list(names or map(str, range(parting.count)))
        msg = (
            f"The losses {', '.join(map(repr, called))} share no parameter that requires a "
            "gradient, so there is nothing to balance between them. Check that they come from one "
            f"model, or name what to watch with `wrt`.{shared.UNTRAINED}"
        )
        raise SharingError(msg)
    _refuse_unwatched(leaves, names, trained)
    return Watched(leaves.shared, leaves, apart=leaves.apart)


def _refuse_unwatched(
    leaves: shared.Parameters, names: Sequence[str] | None, trained: Collection[Tensor] | None
) -> None:
    """Raises where all that a loss is about is something shared that is not watched."""
    called = list(names or map(str, range(len(leaves.own))))
    for i in leaves.apart:
        unwatched = [leaf for leaf in leaves.inputs if leaves.reach[leaf] >> i & 1]
        own = [leaf for leaf in leaves.own[i] if trained is None or leaf in trained]
        if unwatched and not own:
            msg = (
                f"Loss {called[i]!r} reaches no watched parameter, but shares with others a tensor "
                f"of shape {tuple(unwatched[0].shape)}, which "
                + ("`trained` does not name" if trained else "is taken for an input of the model")
                + ". Name it: trained=[optimizer, tensor], or trained=<the optimizer that has it>; "
                "or detach it, or leave the loss out."
            )
            raise SharingError(msg)


def _watch_among(
    losses: Sequence[Tensor],
    group: Sequence[int],
    wrt: str,
    names: Sequence[str] | None,
    trained: Collection[Tensor] | None,
) -> Watched:
    """What some of the losses share; the others are apart."""
    called = None if names is None else [names[i] for i in group]
    watched = _watch_named([losses[i] for i in group], wrt, called, trained)
    apart = tuple(i for i in range(len(losses)) if i not in group)
    heads = watched.heads
    if heads is not None:
        below = set(shared.leaves_below(watched.targets))
        around = {i: shared.leaves_below([losses[i]]) for i in apart}
        met = any(not below.isdisjoint(leaves) for leaves in around.values())
        of_group = dict(zip(group, heads, strict=True))
        every = range(len(losses))
        heads = None if met else tuple(tuple(around.get(i) or of_group[i]) for i in every)
    return Watched(watched.targets, heads=heads, apart=apart)


def watch_leaves(targets: tuple[Tensor, ...], found: shared.Parameters, count: int) -> Watched:
    """Watches some leaves.

    Args:
        targets: The leaves.
        found: All leaves that the losses reach.
        count: How many losses there are.

    Raises:
        SharingError: If no loss reaches one of the targets.
    """
    named = set(targets)
    if named.isdisjoint(found.everything):
        raise SharingError(_UNREACHED)
    apart = shared.not_reaching(targets, found.reach, count)
    if not named.issuperset(found.shared):
        return Watched(targets, apart=apart)
    own = tuple(tuple(leaf for leaf in leaves if leaf not in named) for leaves in found.own)
    inputs = tuple(leaf for leaf in found.inputs if leaf not in named)
    return Watched(targets, shared.Parameters(targets, own, inputs), apart=apart)
