"""What `equipoise bench` runs: what a step with each method costs, in time, memory and passes.

It flows one way: `request` says what to measure, `cases` and `peers` build it on a model of
`models`, `contest` takes the measurements (`memory`, `pass_counter`, and times through
`contender`), `prices` keeps them, `table`, `console`, `report` and `pictures` show them.
"""

from __future__ import annotations
