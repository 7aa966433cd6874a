"""Over which parameters one gradient norm is taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.optim.hyperparameters import Granularity
from equipoise.optim.moments import Moments


class Units:
    """Numbers the unit of each parameter.

    Args:
        granularity: What one norm is taken over.
    """

    def __init__(self, granularity: Granularity) -> None:
        self._granularity = granularity
        self._known: tuple[list[Moments], Tensor] | None = None

    def numbers(self, groups: Sequence[dict[str, Any]], buckets: list[Moments]) -> Tensor | None:
        """The number of the unit of each parameter, in the order of the buckets.

        Returns:
            ``[n]``; ``None`` where every tensor is its own unit.
        """
        if self._granularity == "tensor":
            return None
        if self._known is None or self._known[0] != buckets:
            labels = dict(_labels(groups, self._granularity))
            numbers: dict[object, int] = {}
            each = [
                numbers.setdefault(labels[parameter], len(numbers))
                for bucket in buckets
                for parameter in bucket.parameters
            ]
            self._known = (buckets, torch.tensor(each, device=buckets[0].norms.device))
        return self._known[1]


def _labels(
    groups: Sequence[dict[str, Any]], granularity: Granularity
) -> Iterator[tuple[Tensor, object]]:
    """Each parameter with the name of the unit it belongs to."""
    for number, group in enumerate(groups):
        for i, parameter in enumerate(group["params"]):
            if granularity == "layer":
                yield parameter, group["param_names"][i].rpartition(".")[0]
            else:
                yield parameter, number if granularity == "group" else 0
