"""Weightings: balancers that look at loss values only, one file a method."""

from __future__ import annotations

from equipoise.weighting.base import Weighting
from equipoise.weighting.equal import Equal
from equipoise.weighting.first_value import FirstValue
from equipoise.weighting.fixed import Fixed
from equipoise.weighting.priority import DynamicTaskPrioritization
from equipoise.weighting.softadapt import SoftAdapt
from equipoise.weighting.uncertainty import Uncertainty

__all__ = [
    "DynamicTaskPrioritization",
    "Equal",
    "FirstValue",
    "Fixed",
    "SoftAdapt",
    "Uncertainty",
    "Weighting",
]
