"""What is finite: known at once on the CPU, a boolean scalar where asking would synchronise."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def all_finite(tensor: Tensor) -> bool | Tensor:
    """Whether all is finite, without a copy of what is as wide as a gradient."""
    if tensor.numel() == 0:  # a process that has no column of what is sharded
        return True
    lowest, highest = tensor.aminmax()
    if tensor.is_cpu:
        # Neither comparison holds for NaN, which both extremes are if it is anywhere.
        return lowest.item() > -torch.inf and highest.item() < torch.inf
    return lowest.isfinite() & highest.isfinite()


def none_infinite(tensors: Iterable[Tensor]) -> bool | Tensor:
    """Whether no number is infinite; NaN is allowed, which marks what was not met yet."""
    floating = [tensor.reshape(-1) for tensor in tensors if tensor.is_floating_point()]
    if not floating:
        return True
    infinite = torch.cat(floating).isinf().any()
    return not infinite.item() if infinite.is_cpu else ~infinite
