"""What a problem measures, and the one number that it is judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Measurement: TypeAlias = "float | Mapping[str, float]"
"""What `Trial.evaluate` and `Trial.validate` return: the metric, or several by name."""

DELTA_M = "Delta_m"
"""As a `Problem.metric`: the mean over all metrics of how much better each is than its reference.

In percent, so 0 is as good as the references, and -10 is worse by a tenth on average (Maninis et
al. 2019, arXiv 1904.08918).
"""


@dataclass(frozen=True)
class Metric:
    """One of several numbers that a problem measures.

    Args:
        name: As the mapping returned by `Trial.evaluate` calls it.
        higher_is_better: Whether a larger one is a better one.
        reference: What it is held against in `DELTA_M`: what a model reaches that is trained for
            this task alone, or with the right weights; found beforehand, and not zero.
    """

    name: str
    higher_is_better: bool
    reference: float | None = None


def delta_m(metrics: Sequence[Metric], values: Mapping[str, float]) -> float:
    r"""How much better than their references the metrics are on average, in percent.

    :math:`\Delta_m = \frac{100}{K} \sum_k \pm (M_k - R_k) / R_k`; minus where less is better.

    Args:
        metrics: The ``K`` metrics, with references ``R``.
        values: Their values ``M``.

    Returns:
        Percent; more is better.

    Example:
        >>> error, score = Metric("error", False, 0.5), Metric("score", True, 80.0)
        >>> delta_m([error, score], {"error": 0.6, "score": 80.0})
        -10.0
    """
    gains = [
        (1 if metric.higher_is_better else -1) * (values[metric.name] / metric.reference - 1)
        for metric in metrics
        if metric.reference
    ]
    return (
        round(100 * math.fsum(gains) / len(gains), 12)
        if all(map(math.isfinite, gains))
        else math.nan
    )
