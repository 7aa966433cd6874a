"""What `equipoise compare` runs: training runs, their results, statistics and the report.

A comparison flows one way. A `plan` is what a user wrote; `outline` reads it, and `rows` expands it
into variants (method, options, learning rate). `comparison` asks `cells` what is to be trained next
and hands that to one of the `engines`, all of which call `training` with a trainer of `trainers`.
`results` keeps each finished run, `timing_file` the price of a step. `selection` chooses variants
on validation data, `gathering` makes rows of the runs; `statistics`, `paired`, `goal` and
`other_view` condense them; `live_bars`, `console`, `sentences`, `report`, `pictures` and `tradeoff`
show them.
"""

from __future__ import annotations
