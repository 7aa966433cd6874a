"""CAGrad's problem over the simplex."""

from __future__ import annotations

import math

import numpy as np

from equipoise.solvers.complementarity import nonnegative_minimum
from equipoise.solvers.min_norm import normalised, zero_rows
from equipoise.solvers.scaling import Array, is_finite, unit_diagonal

_MAX_SECANTS = 100
# Squared norm, in units of the shortest gradient's, that rounding alone can leave.
_CANCELLED = 1e-15
# At this one, rounding does not hide whether growing beyond a norm of zero pays.
_NEARBY = 1e-10


def cagrad_weights(gramian: Array, c: float) -> Array:
    r"""Weights of CAGrad's dual problem.

    $$\arg\min_{w \ge 0,\ 1^\top w = 1} g_w^\top g_0 + c\,\|g_0\|\,\|g_w\|, \qquad
    g_w = J^\top w,\quad g_0 = J^\top 1/T$$

    Exact to rounding and independent of the scale of `G`. The update is
    $g_0 + c\|g_0\|\, g_w / \|g_w\|$; forming it is up to the caller, who has to expect $g_w = 0$ at
    a Pareto stationary point.

    Args:
        gramian: `G`, `[T, T]`.
        c: radius of the ball around `g_0`, relative to its norm, not negative.

    Returns:
        `w`, `[T]`, on the simplex; NaN where the Gramian is not finite. Uniform where `g_0` is
        zero, as every `w` is then a minimiser.

    Example:
        >>> cagrad_weights(np.diag([1.0, 1.0]), 0.5)
        array([0.5, 0.5])

    Source: Liu, Liu, Jin, Stone and Liu, 2021, arXiv:2110.14048, algorithm 1.
    Differs from the authors' code: no constants of 1e-8 inside roots and quotients, and no SLSQP,
    whose absolute tolerance stops at uniform weights when gradients are small.
    """
    if not is_finite(gramian):
        return np.full(len(gramian), np.nan)
    cosines, lengths = unit_diagonal(gramian)
    present = lengths > 0
    if present.all():
        return _positive_lengths(cosines, lengths, len(lengths), c)[0]
    if not present.any():
        return zero_rows(lengths)
    part, objective = _positive_lengths(
        cosines[np.ix_(present, present)], lengths[present], len(lengths), c
    )
    if objective >= 0:
        # The objective is homogeneous in w, and zero on the gradients that are zero.
        return zero_rows(lengths)
    weights = np.zeros(len(lengths))
    weights[present] = part
    return weights


def _positive_lengths(cosines: Array, lengths: Array, count: int, c: float) -> tuple[Array, float]:
    r"""Weights and the sign of the optimum, where no gradient is zero.

    In units of the shortest gradient, $w = b \circ z$, the objective is proportional to
    $h^\top z + \|z\|_C$. For a given norm $\tau$ it is bounded by the quadratic
    $h^\top z + (\tau + \|z\|_C^2 / \tau) / 2$, touching it where $\tau = \|z\|_C$.
    """
    towards_mean = cosines @ lengths / count
    mean_square = float(lengths @ towards_mean) / count
    if mean_square <= 1e-15 * float(lengths.mean()) ** 2:
        return np.full(len(lengths), 1 / count), 0.0
    if c == 0:
        lowest = int((lengths * towards_mean).argmin())
        return np.eye(len(lengths))[lowest], float(towards_mean[lowest])
    ratios = lengths.min() / lengths
    slope = towards_mean / (c * math.sqrt(mean_square))
    points = _QuadraticBound(cosines, ratios, slope, 1 / c**2)
    z, norm = _fixed_norm(points)
    return normalised(ratios * z), float(slope @ z) + norm


class _QuadraticBound:
    """Minimises the bound for a given norm; remembers the free entries as the next first guess."""

    def __init__(self, cosines: Array, ratios: Array, slope: Array, mean_square: float) -> None:
        self.cosines, self.ratios = cosines, ratios
        cross = slope * ratios[:, None]
        self.cross = cross + cross.T
        self.square = ratios * ratios[:, None]
        self.mean_square = mean_square
        self.free = np.ones((1, len(ratios)), dtype=bool)

    def minimise(self, norm: float) -> tuple[Array, float]:
        """The minimising `z` with `b^T z = 1`, and its squared norm."""
        matrix = self.cosines + norm * self.cross + (1 + norm**2 * self.mean_square) * self.square
        sizes = np.sqrt(matrix.diagonal())
        linear = (self.ratios / sizes)[None]
        y = nonnegative_minimum(matrix / sizes / sizes[:, None], linear, np.ones((1, 1)), self.free)
        self.free = y > 0
        z = y[0] / sizes
        z = z / (self.ratios @ z)
        return z, max(float(z @ self.cosines @ z), 0.0)


def _fixed_norm(bound: _QuadraticBound) -> tuple[Array, float]:
    r"""The `z` at which the bound touches, and its norm.

    $\|z(\tau)\|^2$ is piecewise linear in $\tau^2$, so that secants in these variables end after a
    few steps, exactly; bisection takes over where a secant leaves the bracket.
    """
    z, square = bound.minimise(0.0)
    if square <= _CANCELLED and bound.minimise(math.sqrt(_NEARBY))[1] <= _NEARBY:
        return z, 0.0
    low, high = 0.0, math.inf
    last, last_gap = 0.0, square
    current = square if square > _CANCELLED else _NEARBY
    for _ in range(_MAX_SECANTS):
        z, square = bound.minimise(math.sqrt(current))
        gap = square - current
        low, high = (current, high) if gap > 0 else (low, current)
        if abs(gap) <= 1e-13 * current + 1e-18 or high - low <= 1e-15 * high < math.inf:
            break
        bend = gap - last_gap
        secant = current - gap * (current - last) / bend if bend else math.inf
        last, last_gap = current, gap
        middle = (low + high) / 2 if high < math.inf else max(1.0, 16 * current)
        current = secant if low < secant < high else middle
    return z, math.sqrt(square)
