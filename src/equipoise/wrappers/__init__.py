"""Preferences: what a user wants of the losses, on top of any method.

`Primary` and `Shares` go around a balancer and are balancers themselves, so that they stack. A
priority that changes with time is a schedule in ``priorities``: see `equipoise.schedules`.
"""

from __future__ import annotations

from equipoise.wrappers.base import Preference
from equipoise.wrappers.primary import Primary
from equipoise.wrappers.shares import Shares

__all__ = ["Preference", "Primary", "Shares"]
