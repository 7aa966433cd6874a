"""What batches tell of the gradients behind them: signal, noise, cosines, with their intervals.

The mean gradient of a few batches is the true one plus noise. Squared norms and inner products of
means therefore carry the noise's own, which hides a conflict and invents a signal. Products between
*different* batches do not: their noise is independent, so on average they are those of the true
gradients (a U-statistic of order two, Hoeffding 1948). How far such a number can be trusted is told
by leaving out one batch after the other (the jackknife, Efron & Stein 1981: conservative).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

FEWEST = 3
"""Batches below which nothing can be left out and still be compared."""


@dataclass(frozen=True)
class Estimate:
    """A number, and how far it can be trusted.

    Attributes:
        value: Not a number where it cannot be told.
        half_width: Of its interval; infinite where nothing is known of it.
    """

    value: float
    half_width: float

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.value - self.half_width

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.value + self.half_width


UNKNOWN = Estimate(math.nan, math.inf)


def mean_of(values: Array, confidence: float) -> Estimate:
    """The mean of batches and its two-sided t-interval.

    Args:
        values: One per batch.
        confidence: Of the interval.
    """
    if not len(values):
        return UNKNOWN
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean, math.inf)
    quantile = _quantile(len(values), (1 + confidence) / 2)
    return Estimate(mean, quantile * float(values.std(ddof=1)) / math.sqrt(len(values)))


class Products:
    """Inner products of two losses' true gradients, from the batches that have both.

    Args:
        left: ``[n, d]``, a sketch of the first loss's gradient for each batch.
        right: ``[n, d]``, those of the second, in the same batches; or ``left`` itself.

    Attributes:
        value: The estimate, free of noise on average.
        without: ``[n]``, the estimates without one batch each.
    """

    def __init__(self, left: Array, right: Array) -> None:
        count = len(left)
        left_sum, right_sum = left.sum(axis=0), right.sum(axis=0)
        same = (left * right).sum(axis=1)  # products inside one batch, which share its noise
        total = float(left_sum @ right_sum)
        between = total - same.sum()
        self.value = float(between / (count * (count - 1)))
        touching = left @ right_sum + right @ left_sum - 2 * same
        self.without: Array = (between - touching) / ((count - 1) * (count - 2))


def jackknifed(
    formula: Callable[..., float | Array], confidence: float, *products: Products
) -> Estimate:
    """A formula of some products, its bias taken out, with its one-sided jackknife interval.

    Args:
        formula: Takes one number or one array for each of the products.
        confidence: That the true number lies above `Estimate.low`, and that it lies below
            `Estimate.high`.
        products: All of the same batches.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(formula(*(np.float64(each.value) for each in products)))
        without = np.asarray(formula(*(each.without for each in products)))
    if not (math.isfinite(value) and np.isfinite(without).all()):
        return Estimate(value, math.inf)
    count = len(without)
    spread = math.sqrt((count - 1) / count * float(np.square(without - without.mean()).sum()))
    # A ratio is biased by its denominator's noise; what leaving one out changes tells by how much.
    value = count * value - (count - 1) * float(without.mean())
    return Estimate(value, _quantile(count, confidence) * spread)


def cosine(product: Array, left: Array, right: Array) -> Array:
    """The cosine from an inner product and two squared norms; an array or a number.

    Estimates of squared norms may be negative: there is no cosine then.
    """
    lengths: Array = np.sqrt(left) * np.sqrt(right)
    return product / lengths


@dataclass(frozen=True)
class Signal:
    """How much of a loss's gradient is the same in every batch.

    Attributes:
        square: The squared norm of the true gradient, in units of the typical gradient's; an
            estimate, which may be negative.
        along: How far a batch's gradient goes in the direction of all other batches.
        noise: The squared norm of what differs from batch to batch, in the same units.
        batches: How many there were.
        coherence: Norm of the mean over mean of the norms: 1 without noise, about one over the root
            of the number of batches with nothing else.
    """

    square: float
    along: Estimate
    noise: float
    batches: int
    coherence: float

    def is_told(self, noise: float) -> bool:
        """Whether the mean gradient's direction is known.

        Args:
            noise: How large the noise in the mean of all batches may be, against the signal (both
                squared).
        """
        return self.along.low > 0 and self.noise <= noise * self.batches * self.square

    def batches_needed(self, noise: float) -> float:
        """How many batches would do; infinite where not even a bound is known.

        Args:
            noise: See `is_told`.
        """
        if not (self.square > 0 and self.along.value > 0):
            return math.inf
        # An interval shrinks with the root of the number of batches.
        interval = self.batches * (self.along.half_width / self.along.value) ** 2
        return math.ceil(max(self.noise / (noise * self.square), interval, FEWEST))


def signal_of(sketches: Array, norms: Array, confidence: float) -> Signal:
    """Tells signal from noise.

    Args:
        sketches: ``[n, d]``, in units of the typical gradient.
        norms: ``[n]``, the gradients' norms, in the same units.
        confidence: See `jackknifed`.
    """
    count = len(norms)
    mean_norm = float(norms.mean()) if count else 0.0
    mean = float(np.linalg.norm(sketches.mean(axis=0))) if count else 0.0
    coherence = min(mean / mean_norm, 1.0) if mean_norm else math.nan
    if count < FEWEST:
        return Signal(math.nan, UNKNOWN, math.nan, count, coherence)
    square = Products(sketches, sketches).value
    noise = max(float(np.square(sketches).sum()) / count - square, 0.0)
    return Signal(square, _along(sketches, confidence), noise, count, coherence)


def _along(sketches: Array, confidence: float) -> Estimate:
    """How far each batch goes in the direction of all others, with a one-sided interval.

    Without a signal the others' direction is any, and the mean is zero. But each product of two
    batches counts twice in it, so that it scatters by a root of two more than the spread over
    batches says (for many parameters; for a single one by less).
    """
    others = sketches.sum(axis=0) - sketches
    lengths = np.linalg.norm(others, axis=1)
    steps = (sketches * others).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)
    count = len(steps)
    spread = float(steps.std(ddof=1)) * math.sqrt(2 / count)
    return Estimate(float(steps.mean()), _quantile(count, confidence) * spread)


def _quantile(count: int, probability: float) -> float:
    """Of Student's t; only a diagnosis asks for it, so only a diagnosis waits for the import."""
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, probability))
