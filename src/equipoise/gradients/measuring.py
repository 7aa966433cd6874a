"""`Measuring`: what to spend on measuring gradients, and the price."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Measuring:
    """How gradients are measured: what to spend, memory or backward passes.

    The rule where nothing is chosen: a method that needs only norms keeps one gradient alive at a
    time (``T`` passes to measure and one to apply); a method that needs more keeps all rows
    (``T`` passes in all, none on top).

    Attributes:
        rows: How many rows may be alive at a time, each of the size of the watched tensors. Fewer
            than ``T`` costs more passes: blocks of ``b = rows - 1`` rows take
            ``T + (T - b) + (T - 2 b) + ...`` passes for the Gramian and one to apply.
        dtype: What rows are kept in; ``None`` is that of the parameters, at least float32.
        chunk: How many losses share one batched (vmap) backward pass.
    """

    rows: int | None = None
    dtype: torch.dtype | None = None
    chunk: int = 1

    def __post_init__(self) -> None:
        """Refuses budgets that cannot be kept."""
        if self.rows is not None and self.rows < 2:
            msg = f"`rows` is {self.rows}; comparing gradients takes at least 2 rows."
            raise ValueError(msg)
        if self.chunk < 1:
            msg = f"`chunk` is {self.chunk}; it must be at least 1."
            raise ValueError(msg)

    def passes(self, losses: int, *, norms_only: bool) -> int:
        """The price: backward passes of one measured step, the one that applies included."""
        if norms_only:
            return losses + 1
        if self.rows is None or self.rows >= losses:
            return losses
        return sum(range(losses, 0, -(self.rows - 1))) + 1
