"""Aggregations: balancers that look at gradients, one file per method."""

from __future__ import annotations

from equipoise.aggregation.adaptive_ratio import AdaptiveRatio
from equipoise.aggregation.alignedmtl import AlignedMTL
from equipoise.aggregation.base import Aggregation
from equipoise.aggregation.cagrad import CAGrad
from equipoise.aggregation.con_fig import ConFIG
from equipoise.aggregation.dbmtl import DBMTL
from equipoise.aggregation.dbpinn import DBPINN
from equipoise.aggregation.dualproj import DualProj
from equipoise.aggregation.excessmtl import ExcessMTL
from equipoise.aggregation.fairgrad import FairGrad
from equipoise.aggregation.graddrop import GradDrop
from equipoise.aggregation.gradient_shares import GradientShares
from equipoise.aggregation.gradnorm import GradNorm
from equipoise.aggregation.gradvac import GradVac
from equipoise.aggregation.imtl import IMTL
from equipoise.aggregation.imtlg import IMTLG
from equipoise.aggregation.inverse_dirichlet import InverseDirichlet
from equipoise.aggregation.inverse_gradient_norm import InverseGradientNorm
from equipoise.aggregation.krum import Krum
from equipoise.aggregation.learning_rate_annealing import LearningRateAnnealing
from equipoise.aggregation.metabalance import MetaBalance
from equipoise.aggregation.mgda import MGDA
from equipoise.aggregation.moco import MoCo
from equipoise.aggregation.modo import MoDo
from equipoise.aggregation.momentum_con_fig import MomentumConFIG
from equipoise.aggregation.nashmtl import NashMTL
from equipoise.aggregation.ntk_weights import NTKWeights
from equipoise.aggregation.pcd import PCD
from equipoise.aggregation.pcgrad import PCGrad
from equipoise.aggregation.sdmgrad import SDMGrad
from equipoise.aggregation.trimmed_mean import TrimmedMean
from equipoise.aggregation.upgrad import UPGrad

__all__ = [
    "DBMTL",
    "DBPINN",
    "IMTL",
    "IMTLG",
    "MGDA",
    "PCD",
    "AdaptiveRatio",
    "Aggregation",
    "AlignedMTL",
    "CAGrad",
    "ConFIG",
    "DualProj",
    "ExcessMTL",
    "FairGrad",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "GradientShares",
    "InverseDirichlet",
    "InverseGradientNorm",
    "Krum",
    "LearningRateAnnealing",
    "MetaBalance",
    "MoCo",
    "MoDo",
    "MomentumConFIG",
    "NTKWeights",
    "NashMTL",
    "PCGrad",
    "SDMGrad",
    "TrimmedMean",
    "UPGrad",
]
