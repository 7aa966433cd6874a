"""Gradients that are known already, written to ``.grad`` as a backward pass would."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def accumulate(leaves: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Adds gradients to ``.grad``, as ``Tensor.backward`` does."""
    grown: list[Tensor] = []
    added: list[Tensor] = []
    for leaf, gradient in zip(leaves, gradients, strict=True):
        if leaf.grad is None:
            leaf.grad = gradient
        else:
            grown.append(leaf.grad)
            added.append(gradient)
    if grown:
        torch._foreach_add_(grown, added)


def surrogate(leaves: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """A scalar whose gradient with respect to each leaf is the one given."""
    products = [(leaf * g).sum() for leaf, g in zip(leaves, gradients, strict=True)]
    return torch.stack(products).sum()
