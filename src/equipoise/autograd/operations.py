"""The kinds of nodes that walks over the graph tell apart, each taken from an example of it.

A node's class is the only thing that says what it does, and most classes have no public name.
"""

from __future__ import annotations

import torch

_leaf = torch.ones(1, 1, requires_grad=True)

ADDMM = type(torch.addmm(_leaf, _leaf, _leaf).grad_fn)
MM = type(torch.mm(_leaf, _leaf).grad_fn)
TRANSPOSE = type(_leaf.t().grad_fn)
ELEMENTWISE = tuple(
    type(made.grad_fn)
    for made in (_leaf * _leaf, _leaf + _leaf, _leaf - _leaf, _leaf / _leaf, _leaf**_leaf)
)
"""Operations of two tensors, element by element, that spread the smaller one."""
