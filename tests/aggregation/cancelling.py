"""Gradients that nearly cancel, on which a Gramian in float32 has no digit left."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def nearly_cancelling(count: int, dtype: torch.dtype, seed: int = 0) -> Iterator[Tensor]:
    """Jacobians whose last row is the opposite of the others' sum, to one part in 1 to 10^8."""
    generator = torch.Generator().manual_seed(seed)
    for k in range(count):
        losses = int(torch.randint(2, 6, (), generator=generator))
        rows = torch.randn(losses, (5, 40, 400)[k % 3], generator=generator, dtype=torch.float64)
        apart = 10.0 ** (-8 * float(torch.rand((), generator=generator)))
        rows[-1] = apart * rows[-1] - rows[:-1].sum(0)
        yield rows.to(dtype)
