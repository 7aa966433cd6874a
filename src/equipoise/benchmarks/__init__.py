"""What `equipoise compare` runs: problems, training runs, results, statistics and the report.

A comparison flows one way: `problem` and `methods` say what to run, `comparison` runs it,
`results` keeps each finished run, `statistics` condenses them, `console` and `report` show them.
"""

from __future__ import annotations

from equipoise.benchmarks.problem import Problem, Trial

__all__ = ["Problem", "Trial"]
