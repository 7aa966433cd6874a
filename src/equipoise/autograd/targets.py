"""`wrt` made into what gradients are taken with respect to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from equipoise.autograd import shared
from equipoise.autograd.graph import Parting, SharingError

Target: TypeAlias = Tensor | GradientEdge
"""What gradients are taken with respect to."""
Name: TypeAlias = Literal["shared", "last_shared", "representation"]
"""A place in the graph that has a name."""
Wrt: TypeAlias = Name | nn.Module | Tensor | Iterable[Tensor]
"""Where gradients are watched: a named choice, a module, parameter(s), or a tensor of the graph."""


_NO_TARGET = "`wrt` names no tensor to watch; got {!r}. Pass a module or parameters."


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
    """

    targets: tuple[Target, ...]
    leaves: shared.Parameters | None = None
    heads: tuple[tuple[Tensor, ...], ...] | None = None

    @property
    def sizes(self) -> list[int]:
        """The number of elements of each target."""
        return [numel(target) for target in self.targets]


def numel(target: Target) -> int:
    """How many real numbers the gradient of a target has; two for each complex element."""
    of = target if isinstance(target, Tensor) else _edge(target)
    return math.prod(of.shape) * (2 if of.dtype.is_complex else 1)


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
    return flat.view(tuple(of.shape)).to(of.dtype)


def flat(gradient: Tensor) -> Tensor:
    """A gradient as one row of real numbers, in the order of its elements."""
    if gradient.is_complex():
        gradient = torch.view_as_real(gradient.resolve_conj())
    return gradient.reshape(-1)


def watch(losses: Sequence[Tensor], wrt: Wrt, names: Sequence[str] | None = None) -> Watched:
    """Finds what ``wrt`` means in the graph of these losses.

    Args:
        losses: The live scalars of one step.
        wrt: ``"shared"``, ``"last_shared"``, ``"representation"``, a module, a parameter, an
            iterable of parameters, or a tensor of the graph.
        names: What the losses are called in error messages; default their positions.

    Returns:
        The targets.

    Raises:
        SharingError: If the losses share nothing, or no loss reaches what was named.
        TypeError: If ``wrt`` is none of these.
    """
    if isinstance(wrt, str):
        return _watch_named(losses, wrt, names)
    targets = listed(wrt)
    if all(target.is_leaf for target in targets):
        return watch_leaves(targets, shared.parameters(losses))
    return Watched(targets)


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
        raise TypeError(_NO_TARGET.format(wrt))
    targets = (wrt,) if isinstance(wrt, Tensor) else tuple(wrt)
    if not targets or not all(isinstance(target, Tensor) for target in targets):
        raise TypeError(_NO_TARGET.format(targets))
    return targets


def _watch_named(losses: Sequence[Tensor], wrt: str, names: Sequence[str] | None) -> Watched:
    if wrt not in ("shared", "last_shared", "representation"):
        msg = (
            f"`wrt` is {wrt!r}; write 'shared', 'last_shared', 'representation', a module, "
            "parameters, or a tensor of the graph."
        )
        raise TypeError(msg)
    parting = Parting(losses)
    shared.refuse_parting_in_compiled(parting, "wrt=<the part of the model that is shared>")
    if wrt == "shared":
        leaves = shared.parameters(parting)
        if not leaves.shared:
            called = ", ".join(map(repr, names or map(str, range(len(losses)))))
            msg = (
                f"The losses {called} share no parameter, so there is nothing to balance between "
                "them. Check that they come from one model, or name what to watch with `wrt`."
            )
            raise SharingError(msg)
        return Watched(leaves.shared, leaves)
    if wrt == "last_shared":
        return Watched(shared.last_shared(parting, names))
    return Watched(shared.representation(parting, names), heads=shared.heads(parting))


def watch_leaves(targets: tuple[Tensor, ...], found: shared.Parameters) -> Watched:
    """Watches some leaves.

    Args:
        targets: The leaves.
        found: All leaves that the losses reach.

    Raises:
        SharingError: If no loss reaches one of the targets.
    """
    reached = set(found.everything)
    if not reached.intersection(targets):
        msg = "No loss reaches what `wrt` names; pass parameters that the losses depend on."
        raise SharingError(msg)
    named = set(targets)
    if not named.issuperset(found.shared):
        return Watched(targets)
    own = tuple(tuple(leaf for leaf in leaves if leaf not in named) for leaves in found.own)
    inputs = tuple(leaf for leaf in found.inputs if leaf not in named)
    return Watched(targets, shared.Parameters(targets, own, inputs))
