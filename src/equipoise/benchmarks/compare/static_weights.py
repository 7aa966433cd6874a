"""Static weights to choose among: the baseline that published comparisons leave out."""

from __future__ import annotations

from scipy.stats import qmc

DECADES = 3.0
"""Weights are drawn from a thousandth to a thousand."""

_SEED = 0


def static_weights(losses: int, trials: int) -> list[list[float]]:
    """Weights spread evenly over their logarithms.

    They are points of a scrambled Halton sequence rather than those of a sampler that learns from
    trial to trial: every trial is known beforehand, so that they run side by side, in any order,
    and more of them later continue what was there. The first are ones, which is the plain sum, so
    that choosing never ends behind it on the data that is chosen with.

    Args:
        losses: ``T``.
        trials: ``N``; the first trials of a larger ``N`` are those of a smaller one.

    Returns:
        ``[N, T]`` weights, log-uniform over six decades, then divided by the geometric mean of
        their trial: a common factor of all weights belongs to the learning rate.

    Example:
        >>> weights = static_weights(2, 3)
        >>> weights[0], round(weights[1][0] * weights[1][1], 12)
        ([1.0, 1.0], 1.0)
    """
    points = qmc.Halton(losses, scramble=True, seed=_SEED).random(max(trials - 1, 0))
    logarithms = DECADES * (2 * points - 1)
    centred = logarithms - logarithms.mean(axis=1, keepdims=True)
    drawn = [[float(10**value) for value in trial] for trial in centred]
    return [[1.0] * losses, *drawn][:trials]
