"""Balances the losses of a training run, while the model trains.

balancer = equipoise.GradNorm(["depth", "normals", "semantics"])
...
balancer.backward(losses)  # was: sum(losses.values()).backward()

"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from equipoise import aggregation, optim, pointwise, weighting, wrappers
from equipoise.aggregation import *  # noqa: F403
from equipoise.autograd.graph import SharingError
from equipoise.balancer import Balancer
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.measure import measure
from equipoise.gradients.measuring import Measuring
from equipoise.optim import *  # noqa: F403
from equipoise.pointwise import Causal
from equipoise.record import Record
from equipoise.registry import (
    create_balancer,
    create_optimizer,
    list_balancers,
    list_optimizers,
)
from equipoise.schedules import Cycle, Ramp, Stages
from equipoise.weighting import *  # noqa: F403
from equipoise.wrappers import *  # noqa: F403

try:
    __version__ = version("equipoise")
except PackageNotFoundError:  # imported from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "Balancer",
    "Causal",
    "Cycle",
    "Gradients",
    "Measuring",
    "Ramp",
    "Record",
    "SharingError",
    "Stages",
    "create_balancer",
    "create_optimizer",
    "list_balancers",
    "list_optimizers",
    "measure",
    "pointwise",
]
__all__ += aggregation.__all__
__all__ += optim.__all__
__all__ += weighting.__all__
__all__ += wrappers.__all__
