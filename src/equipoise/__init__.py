"""Balances the losses of a training run, while the model trains.

balancer = equipoise.GradNorm(["depth", "normals", "semantics"])
...
balancer.backward(losses)  # was: sum(losses.values()).backward()

"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from equipoise.aggregation import Aggregation, GradNorm
from equipoise.balancer import Balancer
from equipoise.gradients import Gradients, Measuring
from equipoise.measurement import measure
from equipoise.record import Record
from equipoise.registry import create_balancer, list_balancers
from equipoise.sharing import SharingError
from equipoise.weighting import (
    DynamicTaskPrioritization,
    Equal,
    FirstValue,
    Fixed,
    SoftAdapt,
    Uncertainty,
    Weighting,
)

__all__ = [
    "Aggregation",
    "Balancer",
    "DynamicTaskPrioritization",
    "Equal",
    "FirstValue",
    "Fixed",
    "GradNorm",
    "Gradients",
    "Measuring",
    "Record",
    "SharingError",
    "SoftAdapt",
    "Uncertainty",
    "Weighting",
    "create_balancer",
    "list_balancers",
    "measure",
]

try:
    __version__ = version("equipoise")
except PackageNotFoundError:  # imported from a source tree that was never installed
    __version__ = "0+unknown"
