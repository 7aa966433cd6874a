"""Wrappers: balancers that go on top of any method, and on top of each other.

`Primary` and `Shares` bind each update to what a user wants of it; `Behind` and `CRMOGM` change the
weights on their way; `PerModule` balances parts of the model apart. A priority that changes with
time is a schedule in ``priorities``: see
`equipoise.schedules`.
"""

from __future__ import annotations

from equipoise.wrappers.behind import Behind
from equipoise.wrappers.crmogm import CRMOGM
from equipoise.wrappers.per_module import PerModule
from equipoise.wrappers.primary import Primary
from equipoise.wrappers.shares import Shares

__all__ = ["CRMOGM", "Behind", "PerModule", "Primary", "Shares"]
