"""Sum or mean: the one trap that separates published implementations of the same method."""

from __future__ import annotations

from typing import Literal, TypeAlias

Reduction: TypeAlias = Literal["sum", "mean"]
"""What ``T`` identical gradients ``g`` are reduced to: ``T g`` or ``g``."""
