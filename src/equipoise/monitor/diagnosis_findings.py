"""What was found in the batches: of each loss, of each pair, over all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from equipoise.monitor.diagnosis_statistics import FEWEST, Array, Estimate, Signal


@dataclass(frozen=True)
class Batch:
    """What is kept of one batch.

    Attributes:
        values: ``[T]`` loss values; not a number where a loss is absent, or is none itself.
        norms: ``[T]`` gradient norms; not a number where none was measured.
        cosines: ``[T, T]``, likewise; nor where two gradients meet in no parameter.
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
        product: Their inner product, in units of typical gradients; its interval decides whether
            a conflict is more than noise.
        mean_cosine: The mean cosine of batches, with its interval.
        below_zero: In which part of the batches it was negative.
        batches: How many had both gradients.
        magnitude_similarity: 2 a b / (a^2 + b^2) of the norms (Yu et al. 2020, arXiv 2001.06782).
    """

    first: str
    second: str
    cosine: Estimate
    product: Estimate
    mean_cosine: Estimate
    below_zero: float
    batches: int
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
        pairs: Each pair of losses whose gradients meet in some parameter.
        batches: How many batches were observed.
        norm_ratio: Larger over smaller norm, the largest of all pairs.
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
        """The losses that can be compared with some other."""
        paired = {name for pair in self.pairs for name in (pair.first, pair.second)}
        return tuple(loss for loss in self.losses if loss.name in paired)
