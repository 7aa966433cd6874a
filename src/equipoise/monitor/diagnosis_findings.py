"""What was found in the batches: of each loss, of each pair, over all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt

from equipoise.monitor.diagnosis_statistics import (
    FEWEST,
    UNKNOWN,
    Array,
    Estimate,
    Products,
    Signal,
    cosine,
    jackknifed,
    mean_of,
    signal_of,
)


@dataclass(frozen=True)
class Batch:
    """What is kept of one batch.

    Attributes:
        values: ``[T]`` loss values; not a number where a loss is absent, or is none itself.
        norms: ``[T]`` gradient norms; not a number where none was measured.
        cosines: ``[T, T]``, likewise.
        sketches: ``[d]`` for each loss whose gradient was measured.
        nonfinite: Losses of which the value, or the gradient, was not finite.
        graphless: Losses that had no graph.
        apart: Losses that reach nothing of what is watched.
    """

    values: Array
    norms: Array
    cosines: Array
    sketches: Mapping[int, npt.NDArray[np.floating]] = field(default_factory=dict)
    nonfinite: tuple[int, ...] = ()
    graphless: tuple[int, ...] = ()
    apart: tuple[int, ...] = ()


@dataclass(frozen=True)
class LossFinding:
    """One loss.

    Attributes:
        name: The loss.
        value: Its mean value.
        norm: The median of its gradient's norms, zero gradients aside.
        share: Its part of the summed length of all gradients.
        adam_share: The same of the gradients as Adam divides them, coordinate by coordinate.
        signal: What of its gradient is the same in every batch.
        batches: How many batches its gradient was measured in.
        nonfinite: How many were left out, as the value or the gradient was not finite.
        graphless: In how many it had no graph.
        apart: In how many it reached nothing of what was watched.
        zero: In how many its gradient was zero.
        negative: In how many its value was negative.
    """

    name: str
    value: float
    norm: float
    share: float
    adam_share: float
    signal: Signal
    batches: int
    nonfinite: int
    graphless: int
    apart: int
    zero: int
    negative: int

    @property
    def counts(self) -> bool:
        """Whether there is something to judge: enough gradients that are not zero."""
        return self.batches - self.zero >= FEWEST


@dataclass(frozen=True)
class PairFinding:
    """Two losses.

    Attributes:
        first: The name of one.
        second: The name of the other.
        cosine: That of the true gradients, noise taken out; a one-sided interval on each side.
        product: Their inner product, in units of typical gradients.
        mean_cosine: The mean cosine of batches, with its interval.
        below_zero: In which part of the batches it was negative.
        magnitude_similarity: 2 a b / (a^2 + b^2) of the norms (Yu et al. 2020, arXiv 2001.06782).
    """

    first: str
    second: str
    cosine: Estimate
    product: Estimate
    mean_cosine: Estimate
    below_zero: float
    magnitude_similarity: float

    @property
    def beyond_noise(self) -> bool:
        """Whether the sign of the true gradients' inner product is known."""
        return self.product.low > 0 or self.product.high < 0


@dataclass(frozen=True)
class Findings:
    """All that was found.

    Attributes:
        losses: Each loss.
        pairs: Each pair of losses that have gradients.
        batches: How many batches were observed.
        norm_ratio: Largest over smallest norm.
        alignment: 2 mean(C) - 1 with C the cosines of a batch, its mean over the batches (Wang et
            al. 2025, arXiv 2502.00604): 1 where all agree, 2 / T - 1 where all are at right angles.
        magnitude_similarity: The mean of that of the pairs.
    """

    losses: tuple[LossFinding, ...]
    pairs: tuple[PairFinding, ...]
    batches: int
    norm_ratio: float
    alignment: float
    magnitude_similarity: float

    @property
    def judged(self) -> tuple[LossFinding, ...]:
        """The losses that can be compared."""
        return tuple(loss for loss in self.losses if loss.counts)


def find(
    names: Sequence[str],
    batches: Sequence[Batch],
    adam_norms: Sequence[float],
    confidence: float,
) -> Findings:
    """Works out what the batches tell.

    Args:
        names: Of the ``T`` losses.
        batches: At least one.
        adam_norms: ``T``, see `Sums.adam_norms`.
        confidence: Of the intervals.
    """
    norms = np.stack([batch.norms for batch in batches])
    typical = np.array([_median(column[column > 0]) for column in norms.T])
    units = np.where(typical > 0, typical, 1.0)
    scaled = _stacked(batches, len(names)) / units[:, None]
    shares, adam_shares = _shares(typical), _shares(np.array(adam_norms))
    losses = tuple(
        LossFinding(
            name=name,
            value=_mean(np.array([batch.values[i] for batch in batches])),
            norm=float(typical[i]),
            share=float(shares[i]),
            adam_share=float(adam_shares[i]),
            signal=_signal(scaled[:, i], norms[:, i] / units[i], confidence),
            batches=int(np.isfinite(norms[:, i]).sum()),
            nonfinite=sum(i in batch.nonfinite for batch in batches),
            graphless=sum(i in batch.graphless for batch in batches),
            apart=sum(i in batch.apart for batch in batches),
            zero=int((norms[:, i] == 0).sum()),
            negative=sum(bool(batch.values[i] < 0) for batch in batches),
        )
        for i, name in enumerate(names)
    )
    there = [i for i, loss in enumerate(losses) if loss.counts]
    cosines = np.stack([batch.cosines for batch in batches])
    pairs = tuple(
        _pair((losses[i], losses[j]), scaled[:, [i, j]], cosines[:, i, j], confidence)
        for i, j in combinations(there, 2)
    )
    sizes = typical[there]
    return Findings(
        losses=losses,
        pairs=pairs,
        batches=len(batches),
        norm_ratio=float(sizes.max() / sizes.min()) if len(there) > 1 else math.nan,
        alignment=_alignment(cosines[:, there][:, :, there]),
        magnitude_similarity=_mean(np.array([pair.magnitude_similarity for pair in pairs])),
    )


def _stacked(batches: Sequence[Batch], losses: int) -> Array:
    """The sketches, ``[batches, T, d]``, zero where none was measured."""
    width = max((len(row) for batch in batches for row in batch.sketches.values()), default=0)
    stacked = np.zeros((len(batches), losses, width))
    for place, batch in zip(stacked, batches, strict=True):
        for loss, sketch in batch.sketches.items():
            place[loss, : len(sketch)] = sketch  # shorter where a batch shared less
    return stacked


def _signal(sketches: Array, norms: Array, confidence: float) -> Signal:
    measured = np.isfinite(norms)
    return signal_of(sketches[measured], norms[measured], confidence)


def _pair(
    losses: tuple[LossFinding, LossFinding], sketches: Array, cosines: Array, confidence: float
) -> PairFinding:
    """A pair, from the batches in which both have a gradient."""
    first, second = losses
    both = np.isfinite(cosines)
    left, right = sketches[both, 0], sketches[both, 1]
    found = product = UNKNOWN
    if both.sum() >= FEWEST:
        products = Products(left, right), Products(left, left), Products(right, right)
        found = jackknifed(cosine, confidence, *products)
        product = jackknifed(lambda inner: inner, confidence, products[0])
    known = cosines[both]
    small, large = sorted((first.norm, second.norm))
    ratio = small / large
    return PairFinding(
        first=first.name,
        second=second.name,
        cosine=found,
        product=product,
        mean_cosine=mean_of(known, confidence),
        below_zero=float((known < 0).mean()) if len(known) else math.nan,
        magnitude_similarity=2 * ratio / (1 + ratio**2),
    )


def _alignment(cosines: Array) -> float:
    """The mean alignment score of the batches that have every loss that counts."""
    whole = cosines[np.isfinite(cosines).all(axis=(1, 2))]
    if not whole.size:
        return math.nan
    return float(2 * whole.mean() - 1)


def _shares(norms: Array) -> Array:
    total = norms.sum()
    return norms / total if total > 0 else np.full(len(norms), math.nan)


def _median(values: Array) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan
