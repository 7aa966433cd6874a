"""Multi-term optimizers: they turn the gradients of the losses into the parameter update itself."""

from __future__ import annotations

from equipoise.optim.autobalance import AutoBalance
from equipoise.optim.mtadam import MTAdam
from equipoise.optim.multiadam import MultiAdam

__all__ = ["AutoBalance", "MTAdam", "MultiAdam"]
