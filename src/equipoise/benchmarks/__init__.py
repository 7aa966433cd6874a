"""What the commands run: `compare`, `diagnose`, `bench` are named as theirs, `catalogue` is `list`.

What both share lies here: `methods` (how a user writes them), `problem` and `problems` (what is
trained), `timing` (the one engine) beside `baseline` (the plain sum), and `refusal` (the answer to
what cannot be carried out).
"""

from __future__ import annotations

from equipoise.benchmarks.metrics import DELTA_M, Metric
from equipoise.benchmarks.problem import Problem, Trial

__all__ = ["DELTA_M", "Metric", "Problem", "Trial"]
