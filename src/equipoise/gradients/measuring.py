"""`Measuring`: what to spend on measuring gradients, and the price."""

from __future__ import annotations

from dataclasses import dataclass

import torch

KEPT = 1 << 24
"""Bytes up to which rows are kept where only their norms are asked for: more are slow to write."""


@dataclass(frozen=True)
class Measuring:
    """How gradients are measured: what to spend, memory or backward passes.

    The rule where nothing is chosen: all rows are kept (``T`` passes in all, none on top), but for
    a method that needs only norms of gradients that would take more than 16 MiB together. It keeps
    one alive at a time (``T`` passes to measure and one to apply).

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

    def keeps(self, losses: int, *, norms_only: bool, nbytes: int) -> bool:
        """Whether all rows are kept, so that ``.grad`` is written from them.

        Args:
            losses: ``T``.
            norms_only: Whether norms are all that is asked for.
            nbytes: What one row takes.
        """
        if self.rows is not None:
            return self.rows >= losses
        return not norms_only or losses * nbytes <= KEPT

    def passes(self, losses: int, *, norms_only: bool, nbytes: int = 0) -> int:
        """The price: backward passes of one measured step, the one that applies included.

        Args:
            losses: ``T``.
            norms_only: Whether norms are all that is asked for.
            nbytes: What one row takes; by default little.
        """
        if self.keeps(losses, norms_only=norms_only, nbytes=nbytes):
            return losses
        if norms_only or self.rows is None:
            return losses + 1
        return sum(range(losses, 0, -(self.rows - 1))) + 1
