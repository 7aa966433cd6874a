"""Nash bargaining and its generalisation, alpha-fairness."""

from __future__ import annotations

import math

import numpy as np

from equipoise.solvers.scaling import DOUBLE, Array, is_finite, lifted, rounding, unit_diagonal

_MAX_NEWTON_STEPS = 100
# Relative change after which the next step, converging quadratically, would be below rounding.
_CONVERGED = 1e-9
# No entry loses more than this share in one step, lest rounding take it to zero.
_LARGEST_SHRINKAGE = 0.99
# Squared norm of the update, of unit gradients, below which they are taken to cancel; larger
# where the Gramian is less precise.
_CANCELLED = 1e-13


def nash_bargaining(gramian: Array, precision: float = DOUBLE) -> Array:
    r"""Weights of the Nash bargaining solution.

    $$G \alpha = 1 / \alpha, \qquad \alpha > 0$$

    These are the minimiser of the strictly convex $\tfrac12 \alpha^\top G \alpha - \sum_t \log
    \alpha_t$, found by damped Newton steps to rounding. Each weight is in units of one over its
    gradient's length, so that the update $J^\top \alpha$ does not depend on any loss's scale.

    Args:
        gramian: `G`, `[T, T]`.
        precision: machine epsilon of the dtype in which the gradients were measured.

    Returns:
        `alpha`, `[T]`; NaN where the Gramian is not finite. A gradient that is zero does not take
        part in the bargain and has weight 0. Where gradients cancel (some positive combination of
        them is zero) there is no solution; the positive weights with which they cancel are
        returned, in the proportion in which they run to infinity, their mean in units of one over
        the gradients' lengths being 1.

    Example:
        >>> nash_bargaining(np.diag([1.0, 4.0]))
        array([1. , 0.5])

    Source: Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik and Fetaya, 2022, arXiv:2202.01017,
    claim 3.1.
    Differs from the authors' code: they linearise the problem up to 20 times with a cone solver,
    from the last step's weights, and silently keep these where the solver fails.
    """
    return alpha_fairness(gramian, 1.0, precision)


def alpha_fairness(gramian: Array, alpha: float, precision: float = DOUBLE) -> Array:
    r"""Weights that are fair in the sense of alpha-fair utilities.

    $$G w = w^{-1/\alpha}, \qquad w > 0$$

    The minimiser of a strictly convex function, as in `nash_bargaining`, which is `alpha = 1`.
    Scaling `G` by `s` scales `w` by exactly $s^{-\alpha / (1 + \alpha)}$.

    Args:
        gramian: `G`, `[T, T]`.
        alpha: fairness, greater than 0; accurate from 0.1 to 10. Beyond, or where gradients
            conflict whose lengths are four or more decades apart, rounding limits the weights.
        precision: machine epsilon of the dtype in which the gradients were measured.

    Returns:
        `w`, `[T]`, with the exceptions of `nash_bargaining`: NaN, zero gradients, and gradients
        that cancel.

    Example:
        >>> alpha_fairness(np.diag([1.0, 8.0]), 0.5)
        array([1. , 0.5])

    Source: Ban and Ji, 2024, arXiv:2402.15638, equation 4.
    Differs from the authors' code: they minimise the squared residual by `scipy.least_squares`,
    which is 1 to 23 percent off for gradients of norm 3e-3.
    """
    if not is_finite(gramian):
        return np.full(len(gramian), np.nan)
    cosines, lengths = unit_diagonal(gramian)
    weights = np.zeros(len(lengths))
    present = lengths > 0
    if not present.any():
        return weights
    power = 1 / alpha
    lengths = lengths[present]
    cosines = lifted(cosines[np.ix_(present, present)], precision)
    # Twice what is lifted: gradients that cancel must be found to, whatever was added.
    cancelled = max(_CANCELLED, 2 * rounding(len(lengths), precision))
    balanced = _balanced_weights(cosines, lengths, power, cancelled)
    unit = float(gramian.diagonal().max()) ** (-1 / (1 + power))
    weights[present] = balanced / lengths * unit
    return weights


def _balanced_weights(cosines: Array, lengths: Array, power: float, cancelled: float) -> Array:
    r"""Solve $C \beta = k \beta^{-p}$ with $\beta = d w$ and $k = d^{p-1}$."""
    coefficients = lengths ** (power - 1)
    orthogonal = coefficients ** (1 / (1 + power))
    square = float(orthogonal @ orthogonal)
    agreement = float(orthogonal @ cosines @ orthogonal) / square
    unbounded = orthogonal * cancelled ** (-1 / (1 + power))
    beta: Array = orthogonal * max(agreement, 1e-6) ** (-1 / (1 + power))
    for _ in range(_MAX_NEWTON_STEPS):
        relative = _newton_step(cosines, coefficients, power, beta)
        if (beta > unbounded).any():
            proportion: Array = beta / beta.mean()
            return proportion
        if relative is None:
            break
        shrinkage = -float(relative.min())
        beta = beta * (1 + _step_length(shrinkage, power) * relative)
        if max(shrinkage, float(relative.max())) < _CONVERGED:
            break
    return beta


def _newton_step(cosines: Array, coefficients: Array, power: float, beta: Array) -> Array | None:
    r"""$\delta = \Delta / \beta$; None where rounding has made the Hessian indefinite."""
    barrier = np.sqrt(coefficients * beta ** (1 - power))
    scaled = beta / barrier
    hessian = cosines * scaled * scaled[:, None]
    hessian.ravel()[:: len(beta) + 1] += power
    descent = barrier - scaled * (cosines @ beta)
    try:
        step = np.linalg.solve(hessian, descent)
    except np.linalg.LinAlgError:
        return None
    return step / barrier if step @ descent >= 0 else None


def _step_length(shrinkage: float, power: float) -> float:
    r"""The longest step known not to pass the minimum on its line.

    With $m = \max(-\delta)$ the curvature grows along the step at most by $(1 - t m)^{-(p+1)}$, so
    that the slope stays negative up to this $t$. For $p = 1$ it is the damped step $1 / (1 + m)$ of
    self-concordant functions.
    """
    if shrinkage <= 0:
        return 1.0
    share = 1 - math.pow(1 + power * shrinkage, -1 / power)
    return min(share, _LARGEST_SHRINKAGE) / shrinkage
