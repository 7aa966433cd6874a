"""Weightings: balancers that look at loss values only, one file per method."""

from __future__ import annotations

from equipoise.weighting.base import Weighting
from equipoise.weighting.chebyshev import Chebyshev
from equipoise.weighting.cosmos import COSMOS
from equipoise.weighting.cov_weighting import CoVWeighting
from equipoise.weighting.dwa import DWA
from equipoise.weighting.dynamic_task_prioritization import DynamicTaskPrioritization
from equipoise.weighting.equal import Equal
from equipoise.weighting.famo import FAMO
from equipoise.weighting.first_value import FirstValue
from equipoise.weighting.fixed import Fixed
from equipoise.weighting.geometric_mean import GeometricMean
from equipoise.weighting.imtll import IMTLL
from equipoise.weighting.log_sum import LogSum
from equipoise.weighting.minmax import MinMax
from equipoise.weighting.ntk_trace import NTKTrace
from equipoise.weighting.pbi import PBI
from equipoise.weighting.random_weights import RandomWeights
from equipoise.weighting.relobralo import ReLoBRaLo
from equipoise.weighting.resnorm import ResNorm
from equipoise.weighting.soft_uncertainty import SoftUncertainty
from equipoise.weighting.softadapt import SoftAdapt
from equipoise.weighting.stch import STCH
from equipoise.weighting.stepwise_softadapt import StepwiseSoftAdapt
from equipoise.weighting.uncertainty import Uncertainty

__all__ = [
    "COSMOS",
    "DWA",
    "FAMO",
    "IMTLL",
    "PBI",
    "STCH",
    "Chebyshev",
    "CoVWeighting",
    "DynamicTaskPrioritization",
    "Equal",
    "FirstValue",
    "Fixed",
    "GeometricMean",
    "LogSum",
    "MinMax",
    "NTKTrace",
    "RandomWeights",
    "ReLoBRaLo",
    "ResNorm",
    "SoftAdapt",
    "SoftUncertainty",
    "StepwiseSoftAdapt",
    "Uncertainty",
    "Weighting",
]
