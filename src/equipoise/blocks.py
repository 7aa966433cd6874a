"""Wide matrices taken in blocks of columns that fit the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 1 << 14  # columns
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

    On a CPU the columns are taken in blocks that fit its cache: twice as fast as one product of a
    few long rows, and less rounding.
    """
    if matrix.device.type != "cpu" or matrix.shape[1] <= _BLOCK:
        return at_least_float32(matrix @ matrix.T)
    gram = at_least_float32(matrix.new_zeros(len(matrix), len(matrix)))
    for block in matrix.split(_BLOCK, dim=1):
        block = block.to(gram.dtype)  # noqa: PLW2901
        gram.addmm_(block, block.T)
    return gram


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision made single; sums of many products need it."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
