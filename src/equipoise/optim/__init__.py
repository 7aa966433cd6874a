"""Multi-term optimizers: they turn the gradients of the losses into the parameter update itself."""

from __future__ import annotations

from equipoise.optim.autobalance import AutoBalance
from equipoise.optim.mtadam import MTAdam
from equipoise.optim.registry import create_optimizer, list_optimizers

__all__ = ["AutoBalance", "MTAdam", "create_optimizer", "list_optimizers"]
