"""Which leaves of a step's graph are trained, and which are inputs of the model.

Both require a gradient: the points of a physics-informed network, because the model is derived at
them; its coefficients, because they are learned. Only this step's graph is asked. What tells them
apart is the batch: points bring it along as their leading dimension, and whatever works on them
keeps it; a coefficient has none and is spread over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.optim import Optimizer

from equipoise.autograd.graph import LEAF, variable
from equipoise.autograd.operations import ADDMM, ELEMENTWISE, MM, TRANSPOSE
from equipoise.words import brief

_Part = Optimizer | nn.Module | Tensor
Trained: TypeAlias = _Part | Iterable["Trained"]
"""What is trained: an optimizer, a module, parameters, or several of them."""


def trained_tensors(trained: Trained) -> list[Tensor]:
    """The tensors that are trained, as of now: an optimizer may be given more later.

    Args:
        trained: An optimizer, a module, a tensor, or an iterable of these.

    Raises:
        TypeError: If it is none of these.
    """
    if isinstance(trained, Tensor):
        return [trained]
    if isinstance(trained, nn.Module):
        return list(trained.parameters())
    if isinstance(trained, Optimizer):
        return [tensor for group in trained.param_groups for tensor in group["params"]]
    if isinstance(trained, Iterable) and not isinstance(trained, str):
        return [tensor for part in trained for tensor in trained_tensors(part)]
    msg = (
        f"`trained` is {brief(trained)}; pass the optimizer of this step, a list of optimizers, a "
        "module, or parameters."
    )
    raise TypeError(msg)


def named_once(trained: Trained | None) -> Trained | None:
    """The same, checked, and with generators gone through once for all steps.

    Args:
        trained: As the user gave it.

    Raises:
        TypeError: See `trained_tensors`.
    """
    if isinstance(trained, Iterable) and not isinstance(trained, _Part | str):
        trained = [part if isinstance(part, _Part) else trained_tensors(part) for part in trained]
    if trained is not None:
        trained_tensors(trained)
    return trained


def watchable(leaves: Iterable[Tensor], roots: Iterable[Node]) -> list[Tensor]:
    """Those of shared leaves that count as parameters where nobody said what is trained.

    An ``nn.Parameter`` does. Another leaf does if it has no dimension, if it is a weight of a
    matrix product, or if an element-wise operation spreads it over a batch that it has not: its
    result has more dimensions, or a longer leading one. Where there is no ``nn.Parameter``, all do.

    What this cannot see: points that are spread themselves (the axes of a grid, multiplied with
    each other) count as parameters, and a vector of coefficients that is only indexed counts as
    points. Then ``trained=`` says what is meant.

    Args:
        leaves: Shared by losses.
        roots: The nodes of the losses.
    """
    leaves = list(leaves)
    parameters = {leaf for leaf in leaves if isinstance(leaf, nn.Parameter)}
    if not parameters:
        return leaves
    plain = [leaf for leaf in leaves if leaf not in parameters]
    counted = parameters.union(leaf for leaf in plain if leaf.ndim == 0)
    # Only leaves that have dimensions need their users, and a walk over the whole graph.
    if len(counted) < len(leaves):
        counted.update(_spread(roots))
    return [leaf for leaf in leaves if leaf in counted]


def _spread(roots: Iterable[Node]) -> Iterator[Tensor]:
    """The leaves that some operation spreads over a batch, or multiplies a batch with."""
    stack = list(roots)
    seen = set(stack)
    while stack:
        node = stack.pop()
        for place, (child, _) in enumerate(node.next_functions):
            if child is None:
                continue
            leaf = _weight_or_spread(node, place, child)
            if leaf is not None:
                yield leaf
            if child not in seen:
                seen.add(child)
                stack.append(child)


def _weight_or_spread(node: Node, place: int, child: Node) -> Tensor | None:
    """The leaf that an operation uses as a weight, or spreads."""
    factor = 2 if isinstance(node, ADDMM) else 1 if isinstance(node, MM) else None
    weighs = place == factor
    if weighs and isinstance(child, TRANSPOSE):
        child = child.next_functions[0][0] or child
    if child._sequence_nr() != LEAF:
        return None
    leaf = variable(child)
    return leaf if weighs or _spreads(node, leaf) else None


def _spreads(node: Node, leaf: Tensor) -> bool:
    if not isinstance(node, (*ELEMENTWISE, ADDMM)) or leaf.ndim == 0:
        return False
    made = tuple(node._input_metadata[0].shape)
    return len(made) > leaf.ndim or made[0] > leaf.shape[0]
