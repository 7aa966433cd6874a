"""Which parameters share a bucket."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from equipoise.optim.bucket import Bucket, ParameterState

BucketT = TypeVar("BucketT", bound=Bucket)  # type: ignore[type-arg]

PACKED = 1 << 16
"""Parameters below this number of elements are packed, into buckets of at most this many."""


class Layout(Generic[BucketT]):
    """Keeps the buckets of an optimizer while parameters come, rest, and are loaded anew.

    Parameters share a bucket as long as the same steps reach them. When a step reaches only some
    of a bucket, it is split for good, so a pattern that repeats costs one copy.

    Args:
        kind: What makes a bucket.
        state: The optimizer's.
        packed: Whether small parameters may share a bucket.
    """

    def __init__(
        self,
        kind: Callable[..., BucketT],
        state: Mapping[Tensor, ParameterState],
        *,
        packed: bool,
    ) -> None:
        self._kind = kind
        self._state = state
        self._packed = packed
        self._buckets: list[BucketT] = []

    def arrange(
        self,
        groups: Sequence[dict[str, Any]],
        active: Collection[Tensor],
        count: int,
        *,
        on_device: bool,
    ) -> list[BucketT]:
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
                self._buckets.append(self._kind(members, group, states, count, on_device=on_device))
        return [bucket for bucket in self._buckets if bucket.parameters[0] in active]

    def _is_whole(self, bucket: BucketT, active: Collection[Tensor]) -> bool:
        reached = sum(parameter in active for parameter in bucket.parameters)
        return (
            reached in (0, len(bucket.parameters))
            and bucket.owns(self._state[parameter] for parameter in bucket.parameters)
            and bucket.lies_still()
        )

    def _likeness(self, parameter: Tensor) -> object:
        """What parameters of one bucket have in common."""
        plain = type(parameter) in (Tensor, nn.Parameter) and not parameter.is_complex()
        if not plain:  # Sharded and other special tensors stay alone.
            return id(parameter)
        step = self._state[parameter].get("step")
        steps = () if step is None else tuple(step.flatten().tolist())
        return parameter.device, parameter.dtype, steps


def pack(
    parameters: Iterable[Tensor], alike: Callable[[Tensor], object], *, packed: bool
) -> list[list[Tensor]]:
    """Divides parameters into buckets: a large one alone, small ones together.

    Args:
        parameters: In order.
        alike: Only parameters for which it returns the same may share a bucket.
        packed: Whether any may share one at all.

    Returns:
        The parameters of each bucket.
    """
    buckets: list[list[Tensor]] = []
    latest: dict[object, list[Tensor]] = {}
    for parameter in parameters:
        key = alike(parameter)
        bucket = latest.get(key)
        room = PACKED - sum(p.numel() for p in bucket) if bucket is not None else 0
        if bucket is not None and parameter.numel() <= room:
            bucket.append(parameter)
            continue
        buckets.append([parameter])
        if packed and parameter.numel() < PACKED:
            latest[key] = buckets[-1]
    return buckets
