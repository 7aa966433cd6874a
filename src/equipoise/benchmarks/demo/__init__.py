"""What `equipoise demo` runs: four comparisons, and one page that shows them side by side.

`parts` says which comparisons, and what each is about; `paths` draws the one that has a plane to
walk in. `findings` puts what came out into words, `glance` into the tables of the page, which
`page` writes. All else is what `equipoise compare` does, four times.
"""

from __future__ import annotations
