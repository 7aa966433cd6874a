"""What every method is measured against: the step without a balancer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def plain_sum(losses: Iterable[Tensor]) -> None:
    """``sum(losses).backward()``, the line that a balancer replaces.

    Args:
        losses: Scalars with their graph, at least one.
    """
    # One addition for all, as good implementations write it: no graph of T - 1 additions.
    torch.stack(tuple(losses)).sum().backward()
