"""Who trains: this process, several of this machine, or a Ray cluster; all give back the runs."""

from __future__ import annotations
