"""The kinds of nodes that walks over the graph tell apart, each taken from an example of it.

A node's class is the only thing that says what it does, and most classes have no public name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch.autograd.graph import Node

Edge: TypeAlias = "tuple[Node, int]"
"""A node and the number of one of its outputs."""

_leaf = torch.ones(1, 1, requires_grad=True)
_some = torch.ones(2, 2, requires_grad=True) * 1
_place = torch.tensor([0])


def _kinds(*made: Tensor) -> tuple[type, ...]:
    return tuple({type(tensor.grad_fn): None for tensor in made})


def _filled() -> Tensor:
    vector = torch.zeros(2)
    vector[0] = _some.sum()
    return vector


(ADDMM,) = _kinds(torch.addmm(_leaf, _leaf, _leaf))
(MM,) = _kinds(torch.mm(_leaf, _leaf))
(TRANSPOSE,) = _kinds(_leaf.t())
ELEMENTWISE = _kinds(_leaf * _leaf, _leaf + _leaf, _leaf - _leaf, _leaf / _leaf, _leaf**_leaf)
"""Operations of two tensors, element by element, that spread the smaller one."""

MAPS = (
    *ELEMENTWISE,
    *_kinds(
        _some**2,
        -_some,
        _some.abs(),
        _some.exp(),
        _some.log(),
        _some.sqrt(),
        _some.relu(),
        _some.tanh(),
        _some.sigmoid(),
        F.softplus(_some),
        F.gelu(_some),
        F.silu(_some),
        F.elu(_some),
        F.leaky_relu(_some),
        _some.clamp(0),
        _some.clamp(0, 1),
        _some.clone(),
        _some.as_subclass(Tensor),
        _some.double(),
        _some.nan_to_num(),
        *(
            kind(_some, torch.zeros(2, 2), reduction="none")
            for kind in (F.mse_loss, F.smooth_l1_loss, F.huber_loss)
        ),
        F.binary_cross_entropy_with_logits(_some, torch.zeros(2, 2), reduction="none"),
    ),
)
"""Operations of which each element depends on that at its own place."""

REDUCTIONS = _kinds(_some.sum(0), _some.mean(0))
"""One number from each row, column, ..."""

PARTS = _kinds(
    _some[0],
    _some[:1],
    _some[_place],
    _some.index_select(0, _place),
    _some.masked_select(torch.eye(2).bool()),
    _some.gather(0, torch.tensor([[0]])),
    _some.unbind()[0],
    _some.split(1)[0],
    _some.as_strided((1,), (1,)),
)
"""Some elements of a tensor."""

JOINS = _kinds(
    torch.stack([_some]),
    torch.cat([_some, _some]),
    _filled(),
    _some.view(4),
    _some[None],
    _some[None].squeeze(),
    _some[None].squeeze(0),
    _some.permute(1, 0),
    _some.transpose(0, 1),
    _some.t(),
)
"""Elements of several tensors, or of one, at other places."""

INDEXED = _kinds(
    F.embedding(_place, _some),
    F.embedding_bag(_place[None], _some),
    _some[_place],
    _some.index_select(0, _place),
    _some.gather(0, torch.tensor([[0]])),
    _leaf.expand(2, 1),
    _leaf.repeat(2, 1),
)
"""What gives a parameter the shape of the data: a look-up, or a copy for each sample."""
