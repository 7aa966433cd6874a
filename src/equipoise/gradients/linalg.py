"""Wide matrices taken in blocks of columns that fit the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_BLOCK = 1 << 14  # columns
_NORMED = 1 << 12  # columns whose squares a CPU adds up without losing digits
_SHORT = 1 << 16  # elements whose norm is as exact at once
_WIDENED = 64  # blocks of half precision that are made single at a time
_CACHED = 1 << 19  # elements of which a few copies fit the cache of a CPU
_LAUNCHED = 1 << 25  # elements for which an accelerator forgets what a launch costs


def column_blocks(*wide: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cuts tensors of equally many columns, their last axis, into blocks that fit a cache.

    Args:
        wide: The tensors; the first tells how many elements a column has.

    Returns:
        Views of the same columns of each tensor, block after block.
    """
    rows = wide[0].shape[:-1].numel()
    room = _CACHED if wide[0].device.type == "cpu" else _LAUNCHED
    columns = max(room // max(rows, 1), 1)
    return zip(*(tensor.split(columns, dim=-1) for tensor in wide), strict=True)


def gramian(matrix: Tensor) -> Tensor:
    """``J J^T`` of a wide matrix, at least float32.

    The columns are taken in blocks, all in one batched product: a product of a few long rows leaves
    a CPU's cores and most of a GPU idle (T = 10 and four million columns: 54 ms as one product, 17
    in blocks, on two cores; 2.6 times faster on an H200). Sums of blocks also round less.
    """
    if matrix.shape[1] <= _BLOCK:
        matrix = at_least_float32(matrix)
        return matrix @ matrix.T
    narrow = at_least_float32(matrix[:, :0]).dtype != matrix.dtype
    parts = matrix.split(_WIDENED * _BLOCK, dim=1) if narrow else (matrix,)
    return torch.stack([_batched(at_least_float32(part)) for part in parts]).sum(dim=0)


def _batched(matrix: Tensor) -> Tensor:
    whole = matrix.shape[1] // _BLOCK * _BLOCK
    blocks = matrix[:, :whole].unflatten(1, (-1, _BLOCK)).transpose(0, 1)
    rest = matrix[:, whole:]
    return torch.bmm(blocks, blocks.transpose(1, 2)).sum(dim=0) + rest @ rest.T


def row_norms(matrix: Tensor) -> Tensor:
    """The L2 norm of each row, ``[T]`` from ``[T, P]``, at least float32.

    In blocks of columns: a CPU adds up millions of squares in float32 to a norm that is short by
    one part in 1500 (sixteen million), and takes twice the time for it.
    """
    matrix = at_least_float32(matrix)
    whole = matrix.shape[1] // _NORMED * _NORMED
    if matrix.device.type != "cpu" or whole <= _NORMED:
        short: Tensor = torch.linalg.vector_norm(matrix, dim=1)
        return short
    blocks = torch.linalg.vector_norm(matrix[:, :whole].unflatten(1, (-1, _NORMED)), dim=2)
    rest = torch.linalg.vector_norm(matrix[:, whole:], dim=1, keepdim=True)
    norms: Tensor = torch.linalg.vector_norm(torch.cat([blocks, rest], dim=1), dim=1)
    return norms


def inner(left: Tensor, right: Tensor) -> Tensor:
    """The inner product of two flat tensors, in blocks for the same reason."""
    whole = len(left) // _NORMED * _NORMED
    if left.device.type != "cpu" or len(left) <= _SHORT:
        return torch.dot(left, right)
    rows, columns = left[:whole].view(-1, 1, _NORMED), right[:whole].view(-1, _NORMED, 1)
    return torch.bmm(rows, columns).sum() + torch.dot(left[whole:], right[whole:])


def tensor_norms(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The L2 norm of each tensor, real or complex, as a scalar of a real dtype.

    Args:
        tensors: On one device.
        dtype: In which squares are added up.
    """
    norms: list[Tensor | None] = [None] * len(tensors)
    small = []
    for place, tensor in enumerate(tensors):
        if tensor.device.type == "cpu" and tensor.numel() > _SHORT and not tensor.is_complex():
            norms[place] = row_norms(_flat(tensor).to(dtype)[None])[0]
        else:
            small.append(place)
    if small:
        wide = dtype.to_complex() if tensors[small[0]].is_complex() else dtype
        found = torch._foreach_norm([tensors[place] for place in small], 2, dtype=wide)
        for place, norm in zip(small, found, strict=True):
            norms[place] = norm
    return [norm for norm in norms if norm is not None]


def l2_norm(row: Sequence[Tensor]) -> Tensor:
    """The L2 norm of a gradient given tensor by tensor, at least float32."""
    dtype = torch.float64 if row[0].dtype == torch.float64 else torch.float32
    return torch.stack(tensor_norms(row, dtype)).square().sum().sqrt()


def _flat(tensor: Tensor) -> Tensor:
    """All elements, in the order of memory where there are no gaps in it."""
    if tensor.stride() == torch.empty_like(tensor, device="meta").stride():
        return tensor.as_strided((tensor.numel(),), (1,))
    return tensor.reshape(-1)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision made single; sums of many products need it."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
