"""How findings are worked out from what was kept of the batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from equipoise.monitor.diagnosis_findings import Batch, Findings, LossFinding, PairFinding
from equipoise.monitor.diagnosis_statistics import (
    FEWEST,
    UNKNOWN,
    Array,
    Products,
    Signal,
    cosine,
    jackknifed,
    mean_of,
    signal_of,
)


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
        if np.isfinite(cosines[:, i, j]).any()
    )
    norms_of = {loss.name: loss.norm for loss in losses}
    ratios = [_ratio(norms_of[pair.first], norms_of[pair.second]) for pair in pairs]
    return Findings(
        losses=losses,
        pairs=pairs,
        batches=len(batches),
        norm_ratio=max(ratios, default=math.nan),
        alignment=_alignment(cosines[:, there][:, :, there]),
        magnitude_similarity=_mean(np.array([pair.magnitude_similarity for pair in pairs])),
    )


def _ratio(first: float, second: float) -> float:
    return max(first, second) / min(first, second)


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
    ratio = _ratio(first.norm, second.norm)
    return PairFinding(
        first=first.name,
        second=second.name,
        cosine=found,
        product=product,
        mean_cosine=mean_of(known, confidence),
        below_zero=float((known < 0).mean()) if len(known) else math.nan,
        batches=len(known),
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
