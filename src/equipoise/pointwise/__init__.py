"""Per-point residuals in, a scalar loss out; any balancer goes on top. One file per method."""

from __future__ import annotations

from equipoise.pointwise.base import Pointwise
from equipoise.pointwise.causal import Causal
from equipoise.pointwise.residual_attention import ResidualAttention
from equipoise.pointwise.self_adaptive import SelfAdaptive

__all__ = ["Causal", "Pointwise", "ResidualAttention", "SelfAdaptive"]
