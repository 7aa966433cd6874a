"""Sum or mean: the one trap that separates published implementations of the same method."""

from __future__ import annotations

from typing import Literal, TypeAlias

Reduction: TypeAlias = Literal["sum", "mean"]
"""What ``T`` identical gradients ``g`` are reduced to: ``T g`` or ``g``."""


def checked_reduction(reduction: Reduction) -> Reduction:
    """The argument itself.

    Raises:
        ValueError: If it is neither ``"sum"`` nor ``"mean"``.
    """
    if reduction not in ("sum", "mean"):
        raise ValueError(f"`reduction` is {reduction!r}; write 'sum' or 'mean'.")
    return reduction
