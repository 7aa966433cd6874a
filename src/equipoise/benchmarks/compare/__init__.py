"""What `equipoise compare` runs: training runs, their results, statistics and the report.

A comparison flows one way: `request` and `comparison` say what to run, `training` runs it with a
trainer of `trainers`, `results` keeps each finished run, `step_times` the price of a step;
`statistics` condenses them, `console`, `report` and `pictures` show them.
"""

from __future__ import annotations
