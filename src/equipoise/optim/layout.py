"""Which parameters share a bucket, and over which of them one gradient norm is taken."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.optim.bucket import Bucket, ParameterState, pack
from equipoise.optim.hyperparameters import Granularity


class Layout:
    """Keeps the buckets of an optimizer while parameters come, rest, and are loaded anew.

    Parameters share a bucket as long as the same steps reach them. When a step reaches only some
    of a bucket, it is split for good, so a pattern that repeats costs one copy.

    Args:
        state: The optimizer's.
        granularity: What one norm is taken over.
        packed: Whether small parameters may share a bucket.
    """

    def __init__(
        self,
        state: Mapping[Tensor, ParameterState],
        granularity: Granularity,
        *,
        packed: bool,
    ) -> None:
        self._state = state
        self._granularity = granularity
        self._packed = packed
        self._buckets: list[Bucket] = []
        self._units: tuple[list[Bucket], Tensor] | None = None

    def arrange(
        self,
        groups: Sequence[dict[str, Any]],
        active: Collection[Tensor],
        count: int,
        *,
        on_device: bool,
    ) -> list[Bucket]:
        """The buckets of the parameters that a step reaches, and of no others.

        Args:
            groups: The optimizer's parameter groups.
            active: The parameters that the step reaches; a set.
            count: The number of losses, ``T``.
            on_device: Where step counters are kept.
        """
        self._buckets = [bucket for bucket in self._buckets if self._is_whole(bucket, active)]
        housed = {parameter for bucket in self._buckets for parameter in bucket.parameters}
        for group in groups:
            homeless = [p for p in group["params"] if p in active and p not in housed]
            for members in pack(homeless, self._likeness, packed=self._packed):
                states = [self._state[parameter] for parameter in members]
                bucket = Bucket(members, group, states, count, on_device=on_device)  # type: ignore[arg-type]
                self._buckets.append(bucket)
        return [bucket for bucket in self._buckets if bucket.parameters[0] in active]

    def _is_whole(self, bucket: Bucket, active: Collection[Tensor]) -> bool:
        reached = sum(parameter in active for parameter in bucket.parameters)
        return reached in (0, len(bucket.parameters)) and bucket.owns(
            self._state[parameter] for parameter in bucket.parameters
        )

    def _likeness(self, parameter: Tensor) -> object:
        """What parameters of one bucket have in common."""
        plain = type(parameter) in (Tensor, nn.Parameter) and not parameter.is_complex()
        if not plain:  # Sharded and other special tensors stay alone.
            return id(parameter)
        state = self._state[parameter]
        steps = int(state["step"]) if "step" in state else 0
        return parameter.device, parameter.dtype, steps

    def units(self, groups: Sequence[dict[str, Any]], buckets: list[Bucket]) -> Tensor | None:
        """The number of the unit of each parameter, in the order of the buckets.

        Returns:
            ``[n]``; ``None`` where every tensor is its own unit.
        """
        if self._granularity == "tensor":
            return None
        if self._units is None or self._units[0] != buckets:
            labels = dict(_labels(groups, self._granularity))
            numbers: dict[object, int] = {}
            each = [
                numbers.setdefault(labels[parameter], len(numbers))
                for bucket in buckets
                for parameter in bucket.parameters
            ]
            self._units = (buckets, torch.tensor(each, device=buckets[0].norms.device))
        return self._units[1]


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
