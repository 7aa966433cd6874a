"""Weights of single points: residuals go in, one loss comes out, and any balancer goes on top."""

from __future__ import annotations

from equipoise.pointwise.causal import Causal
from equipoise.pointwise.residual_attention import ResidualAttention
from equipoise.pointwise.self_adaptive import SelfAdaptive

__all__ = ["Causal", "ResidualAttention", "SelfAdaptive"]
