"""Preferences: what a user wants of the losses, on top of any method.

`Primary` and `Shares` go around a balancer and are balancers themselves, so that they stack. A
priority that changes with time is a schedule in ``priorities``: see `equipoise.parts.schedules`.
"""

from __future__ import annotations

from equipoise.preferences.base import Preference
from equipoise.preferences.primary import Primary
from equipoise.preferences.shares import Shares

__all__ = ["Preference", "Primary", "Shares"]
