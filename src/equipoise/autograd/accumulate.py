"""Gradients that are known already, left in ``.grad`` as a backward pass leaves them.

A gradient that is put into ``.grad`` by hand fires no hook, may lie in memory otherwise than its
parameter (which fused optimizers do not notice), and may share memory with another one. So autograd
itself does it: a scalar whose gradient is what is known goes backward, and each leaf accumulates as
it always does. Hooks on tensors, hooks after accumulation, those of data-parallel wrappers, strides
and sparse layouts are then PyTorch's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from equipoise.autograd.targets import Target


class _Known(torch.autograd.Function):
    """A scalar whose gradient with respect to each leaf is given."""

    @staticmethod
    def forward(ctx: Any, gradients: list[Tensor | None], *leaves: Tensor) -> Tensor:  # noqa: ANN401
        ctx.gradients = gradients
        ctx.set_materialize_grads(False)
        return leaves[0].detach().real.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        # Handed over, not lent: a leaf that holds the only reference need not copy.
        gradients: list[Tensor | None] = [None, *ctx.gradients]
        ctx.gradients.clear()
        return tuple(gradients)


def _known(leaves: list[Tensor], gradients: list[Tensor | None]) -> Tensor:
    scalar: Tensor = _Known.apply(gradients, *leaves)  # type: ignore[no-untyped-call]
    return scalar


def accumulate(leaves: Sequence[Tensor], gradients: list[Tensor | None]) -> None:
    """Adds gradients to ``.grad``.

    Args:
        leaves: That require a gradient.
        gradients: One for each, of its shape and dtype, or ``None``; the list is emptied.
    """
    backward(leaves, gradients, retain_graph=False)


def backward(
    roots: Sequence[Target],
    gradients: list[Tensor | None],
    *,
    retain_graph: bool,
    inputs: Sequence[Tensor] = (),
) -> None:
    """One backward pass from where gradients are known.

    A leaf that is a root and lies below another one accumulates once, the sum of both.

    Args:
        roots: Scalars or other tensors of the graph, edges of it, leaves.
        gradients: One for each root, ``None`` for a leaf whose hooks are to fire all the same; the
            list is emptied.
        retain_graph: Whether the graph outlives the pass.
        inputs: The leaves that receive a gradient; none named means all.
    """
    known = [
        (root, gradient)
        for root, gradient in zip(roots, gradients, strict=True)
        if isinstance(root, Tensor) and root.is_leaf
    ]
    starts: list[Target] = [r for r in roots if isinstance(r, GradientEdge) or not r.is_leaf]
    seeds = [g for r, g in zip(roots, gradients, strict=True) if not _is_leaf(r)]
    gradients.clear()
    if known:
        with torch.enable_grad():
            starts.append(_known([leaf for leaf, _ in known], [g for _, g in known]))
        seeds.append(torch.ones_like(starts[-1]))  # type: ignore[arg-type]  # a tensor
        known.clear()
    torch.autograd.backward(
        starts,  # type: ignore[arg-type]  # torch takes edges too
        seeds,
        retain_graph=retain_graph,
        inputs=tuple(inputs) or None,
    )


def _is_leaf(root: Target) -> bool:
    return isinstance(root, Tensor) and root.is_leaf


def surrogate(tensors: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """A scalar whose gradient with respect to each tensor is the one given.

    For what wants to call ``.backward()`` itself, and multiply before it.
    """
    products = [
        (tensor * gradient.conj()).real.sum() if tensor.is_complex() else (tensor * gradient).sum()
        for tensor, gradient in zip(tensors, gradients, strict=True)
    ]
    total: Tensor = sum(products[1:], start=products[0])
    return total
