from __future__ import annotations

from tests.benchmarks.compare.conftest import comparison, runs

__all__ = ["comparison", "runs"]
