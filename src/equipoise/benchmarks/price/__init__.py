"""What `equipoise bench` runs: what a step with each method costs, in time, memory and passes.

It flows one way: `request` says what to measure, `cases` and `peers` build it on a model of
`models`, `contest` takes the measurements (`memory`, `passes`, `rounds`), `prices` keeps them,
`table`, `console`, `page`, `pictures` and `readme` show them.
"""

from __future__ import annotations
