r"""Gradient norms of one affine layer, without its gradients.

For $Y = X W^\top + 1 b^\top$ with `N` rows, the gradient of `W` and `b` is $D^\top A$ with
$A = [X, 1]$ and `D` the gradient of `Y`. With $A^\top = Q R$ it has the norm of $R D$, which is
cheaper the fewer rows there are: a product of `[N, N]` in the place of one of `[I, N]`. `R` is made
once for all losses. Nothing is squared on the way, so no digit is lost where samples cancel.

Source: Goodfellow, 2015, arXiv:1510.01799 (norms from `D` and `X`); Li, Tramèr, Liang and
Hashimoto, 2022, arXiv:2110.05679, section 4 (for several rows, by Gramians).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from equipoise.autograd.graph import Users, edges_of, users_of
from equipoise.autograd.operations import ADDMM, MM, TRANSPOSE
from equipoise.gradients.linalg import l2_norm
from equipoise.gradients.passes import Passes

if TYPE_CHECKING:
    from torch.autograd.graph import Node

_SMALL = 1 << 16  # elements of a weight whose gradient costs less than the search for its layer
_FACTORISATION = 4  # what one operation of it costs, in operations of a plain product


class _Layer(NamedTuple):
    """The one operation that uses a weight, and its input `X`, `[N, I]`."""

    node: Node
    inputs: Tensor


def affine_norms(passes: Passes) -> Tensor | None:
    """The gradient norm of each loss at an affine layer, from passes that end above it.

    Args:
        passes: Their targets are what norms are taken of.

    Returns:
        ``[T]``, or ``None`` where the targets are not the weight, or weight and bias, of a single
        affine layer on a CPU with so few rows that this pays.
    """
    losses = [loss for loss in passes.losses if loss is not None]
    if passes.average is not None or passes.pool is not None:
        return None  # each process has rows of its own
    if not all(isinstance(t, Tensor) and passes.holder(t) is t for t in passes.targets):
        return None
    layer = _layer(losses, passes.targets)
    if layer is None or not _pays(layer.inputs, passes.targets, len(losses)):
        return None
    factor = _factor(layer.inputs, bias=len(passes.targets) > 1)
    above = replace(passes, targets=[GradientEdge(layer.node, 0)], own=())
    zero = factor.new_zeros(())
    rows = (above.row(i)[0] for i in range(len(passes.losses)))
    norms = [zero if row is None else l2_norm([factor @ row]) for row in rows]
    passes.reached = above.reached
    return torch.stack(norms)


def _factor(inputs: Tensor, *, bias: bool) -> Tensor:
    """`R`, at most `[N, N]`."""
    columns = inputs.T
    if bias:
        columns = torch.cat([columns, columns.new_ones(1, columns.shape[1])])
    factor: Tensor = torch.linalg.qr(columns, mode="r").R
    return factor


def _pays(inputs: Tensor, targets: Sequence[object], losses: int) -> bool:
    rows, columns = inputs.shape
    weight = max((t for t in targets if isinstance(t, Tensor)), key=Tensor.numel)
    outputs = weight.numel() // columns
    return losses * outputs * (columns - rows) > _FACTORISATION * columns * rows


def _layer(losses: Sequence[Tensor], targets: Sequence[object]) -> _Layer | None:
    """The affine layer that the targets are the parameters of, if they serve nothing else."""
    parameters = [target for target in targets if isinstance(target, Tensor) and _plain(target)]
    weights = [parameter for parameter in parameters if parameter.ndim == 2]
    if len(parameters) < len(targets) or len(weights) != 1 or len(targets) > 2:
        return None
    if weights[0].numel() < _SMALL:
        return None
    users = users_of(losses)
    leaves = {
        parameter: node
        for parameter, (node, _) in zip(parameters, edges_of(parameters), strict=True)
    }
    layer = _product(leaves.pop(weights[0]), users)
    if layer is None or any(users.get(leaf) != [(layer.node, 0)] for leaf in leaves.values()):
        return None
    return layer if layer.inputs.dtype == weights[0].dtype else None


def _plain(parameter: Tensor) -> bool:
    hooked = bool(parameter._backward_hooks)
    return parameter.is_leaf and parameter.device.type == "cpu" and not hooked


def _product(weight: Node, users: Users) -> _Layer | None:
    """The product of an input with the transposed weight, as `torch.nn.Linear` forms it."""
    (transpose, _), *others = users.get(weight, [(weight, 0)])
    if others or not isinstance(transpose, TRANSPOSE):
        return None
    (node, place), *others = users[transpose]
    if others:
        return None
    saved: Any = node  # autograd's nodes show what they saved, but declare it nowhere
    if isinstance(node, ADDMM) and place == 2 and saved._saved_alpha == saved._saved_beta == 1:
        return _Layer(node, saved._saved_mat1.detach())
    if isinstance(node, MM) and place == 1:
        return _Layer(node, saved._saved_self.detach())
    return None
