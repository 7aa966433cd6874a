"""Aggregations: balancers that look at gradients, one file a method."""

from __future__ import annotations

from equipoise.aggregation.base import Aggregation
from equipoise.aggregation.gradnorm import GradNorm

__all__ = ["Aggregation", "GradNorm"]
