"""The small convex problems behind the gradient methods.

Each is a function of the Gramian `G`, a `[T, T]` float64 array, and works in float64 NumPy. None
depends on the scale of `G`, none raises for degenerate input: a Gramian with a NaN or an infinite
entry gives weights of NaN, and each docstring says what zero or dependent gradients give.
"""

from __future__ import annotations

from equipoise.solvers.aligned import EigenvalueScale, aligned
from equipoise.solvers.cagrad import cagrad_weights
from equipoise.solvers.dual_cone import dual_cone_projection
from equipoise.solvers.equal_projection import equal_projection
from equipoise.solvers.fairness import alpha_fairness, nash_bargaining
from equipoise.solvers.min_norm import min_norm_point

__all__ = [
    "EigenvalueScale",
    "aligned",
    "alpha_fairness",
    "cagrad_weights",
    "dual_cone_projection",
    "equal_projection",
    "min_norm_point",
    "nash_bargaining",
]
