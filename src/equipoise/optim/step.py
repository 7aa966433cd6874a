"""One step of a multi-term optimizer in the making: losses folded in one after the other."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Generic, TypeAlias

import torch
from torch import Tensor

from equipoise.optim.layout import BucketT
from equipoise.optim.recording import Taken
from equipoise.optim.sharded import NormPool

WAITING = 1 << 26
"""Gradients of a step that take up to this many bytes wait until every pass has succeeded."""

_MOVED = (
    "`backward` failed when the moments had taken in the losses before the one that failed. Go on "
    "from the last checkpoint to have them as they were."
)

Arrange: TypeAlias = Callable[[set[Tensor]], list[BucketT]]
"""Makes the buckets of some parameters; their state stays what it is."""


@dataclass(frozen=True)
class Decisions:
    """Who decides whether a step happens.

    Attributes:
        keep: Where decisions stay on the device: a boolean scalar, whether all losses are finite.
            ``None`` where the host decides.
        unscale: One over the scale that the losses were multiplied with by a ``GradScaler``, which
            decides later whether the step happens: until then no state may move.
        losses: How many the step has.
    """

    keep: Tensor | None = None
    unscale: Tensor | None = None
    losses: int = 1


class Step(ABC, Generic[BucketT]):
    """Takes the gradients of one loss after the other, lets go of each, and then moves.

    Args:
        buckets: Those of the parameters that the step reaches.
        arrange: Makes the buckets of fewer parameters.
        parameters: The parameters to which the gradients belong, in their order.
        decisions: Who decides whether the step happens.
    """

    def __init__(
        self,
        buckets: list[BucketT],
        arrange: Arrange[BucketT],
        parameters: Sequence[Tensor],
        decisions: Decisions,
    ) -> None:
        places = {parameter: place for place, parameter in enumerate(parameters)}
        self.buckets = buckets
        self.taken: list[tuple[int, Tensor | None]] = []
        self.measured: list[Taken] = []
        self._arrange = arrange
        self._expected = 0
        self._places = [[places[p] for p in bucket.parameters] for bucket in buckets]
        self._counts = [len(of_bucket) for of_bucket in self._places]
        self._keep, self._unscale = decisions.keep, decisions.unscale
        self._held: list[tuple[int, list[Tensor | None]]] = []
        self._waits = decisions.losses * sum(map(_bytes, buckets)) <= WAITING
        self._waiting: list[Callable[[], None]] = []
        self._scratch = _scratch(self.buckets)
        cut = any(bucket.sharded for bucket in self.buckets)
        self._pool = NormPool(p for b in self.buckets for p in b.parameters) if cut else None
        for bucket in self.buckets:
            bucket.forget()

    @abstractmethod
    def rest(self, loss: int) -> None:
        """Leaves the state of a loss that the step does not have as it is."""

    @abstractmethod
    def _scales(self, loss: int, norms: Tensor, keep: Tensor | None) -> Tensor | None:
        """What the gradients of one loss are multiplied with, ``[n]``; ``None`` is one for all.

        Args:
            loss: Its position; positions ascend.
            norms: ``[n]``, those of the gradients, in the order of the buckets.
            keep: A boolean scalar; where it is false the loss rests.
        """

    @abstractmethod
    def _move(self, bucket: BucketT) -> None:
        """Updates the parameters of one bucket."""

    def _measured(self, parts: Sequence[Sequence[Tensor | None]]) -> Tensor:
        each = [bucket.measure(part) for bucket, part in zip(self.buckets, parts, strict=True)]
        norms = torch.cat([norms.to(each[0].device, _widest(each)) for norms in each])
        norms = norms if self._pool is None else self._pool.whole(norms)
        return norms if self._unscale is None else norms * self._unscale.to(norms)

    def _over_units(self, norms: Tensor) -> Tensor:
        """The norm over what is balanced as one, given to each of its parameters."""
        return norms

    def take(self, loss: int, gradients: Sequence[Tensor | None]) -> bool | Tensor:
        """Folds the gradients of one loss in.

        Args:
            loss: Its position; positions ascend.
            gradients: One for each parameter; ``None`` where the loss does not reach it.

        Returns:
            Whether they were finite; if not, the loss rests. A boolean scalar where decisions stay
            on the device, true as well where the whole step is left out.
        """
        for absent in range(self._expected, loss):
            self.rest(absent)
        self._expected = loss + 1
        parts = [[gradients[place] for place in places] for places in self._places]
        each = self._measured(parts)
        norms = self._over_units(each)
        finite = torch.isfinite(norms).all()
        if self._unscale is not None:
            self._hold(loss, (each, norms), finite, parts)
            return True
        if self._keep is None and not bool(finite):
            self.measured.append(Taken(loss, each, None, kept=False))
            self.rest(loss)
            return False
        keep = None if self._keep is None else finite & self._keep.to(finite.device)
        factors = self._scales(loss, norms, keep)
        self.measured.append(Taken(loss, each, factors, kept=True if keep is None else keep))
        scales = self._each(factors)
        for bucket, part, scale in zip(self.buckets, parts, scales, strict=True):
            room = self._scratch.get(bucket.room_of)
            fold = partial(bucket.fold, loss, bucket.gather(part), scale, keep, room)
            if self._waits:
                self._waiting.append(fold)
            else:
                fold()
        self.taken.append((loss, keep))
        return True if self._keep is None else finite | ~self._keep.to(finite.device)

    def _each(self, scales: Tensor | None) -> Sequence[Tensor | None]:
        if scales is None:
            return [None] * len(self.buckets)
        return torch.split(scales, self._counts)

    @property
    def awaits_scaler(self) -> bool:
        """Whether a ``GradScaler`` has yet to decide if the step happens."""
        return self._unscale is not None

    @cached_property
    def losses(self) -> int | Tensor:
        """How many losses were folded in; a scalar where decisions stay on the device."""
        count: int | Tensor = 0
        for _, keep in self.taken:
            count = count + (1 if keep is None else keep)
        return count

    @property
    def happens(self) -> bool | Tensor:
        """Whether any loss was folded in; a boolean scalar where decisions stay on the device."""
        return self.losses > 0

    @cached_property
    def _happens_there(self) -> Tensor | None:
        """The same for a bucket: ``None`` where the host has decided."""
        happens = self.happens
        return happens if isinstance(happens, Tensor) else None

    def _hold(
        self,
        loss: int,
        measured: tuple[Tensor, Tensor],
        finite: Tensor,
        parts: Sequence[Sequence[Tensor | None]],
    ) -> None:
        each, norms = measured
        scales = self._scales(loss, norms, None)
        self.measured.append(Taken(loss, each, scales, kept=finite))
        # A norm can overflow where no gradient did; the scaler must see that too.
        seen = torch.where(finite, torch.ones_like(norms) if scales is None else scales, torch.nan)
        held: list[Tensor | None] = []
        for bucket, part, scale in zip(self.buckets, parts, self._each(seen), strict=True):
            whole = bucket.scaled(bucket.gather(part), scale, None)
            bucket.add(whole)
            held.append(whole)
        self._held.append((loss, held))
        self.taken.append((loss, None))

    def takes(self, loss: int) -> bool | Tensor:
        """Whether the last loss was folded in; a boolean scalar where the device decides.

        Args:
            loss: Its position.
        """
        if not self.taken or self.taken[-1][0] != loss:
            return False
        keep = self.taken[-1][1]
        return True if keep is None else keep

    @property
    def parameters(self) -> list[Tensor]:
        """Those that the step reaches."""
        return [parameter for bucket in self.buckets for parameter in bucket.parameters]

    @property
    def written(self) -> list[Tensor]:
        """Those whose ``.grad`` still is what was published."""
        return [parameter for bucket in self.buckets for parameter in bucket.written]

    @contextmanager
    def told_if_moved(self) -> Iterator[None]:
        """Warns if what is done inside the ``with`` block fails when some state has moved."""
        try:
            yield
        except BaseException:
            if self.taken and not self._waits and not self.awaits_scaler:
                warnings.warn(_MOVED, stacklevel=2)
            raise

    @contextmanager
    def put_back_by(self, hooks: Sequence[Tensor]) -> Iterator[None]:
        """Puts the state back if a hook fails that is called after the moments have moved.

        Args:
            hooks: The leaves that have such hooks.
        """
        saved = [bucket.saved() for bucket in self.buckets] if hooks and self._waits else []
        try:
            yield
        except BaseException:
            for bucket, state in zip(self.buckets, saved, strict=bool(saved)):
                bucket.put_back(state)
            raise

    def publish(self) -> None:
        """Writes the sum of what was folded in to ``.grad``, NaN if no step will happen."""
        for fold in self._waiting:
            fold()
        self._waiting.clear()
        for bucket in self.buckets:
            bucket.publish(self._happens_there)

    def settle(self) -> None:
        """Makes what was held for a scaler part of the state."""
        for loss, held in self._held:
            for bucket, whole in zip(self.buckets, held, strict=True):
                bucket.absorb(loss, self._unscaled(whole), None)
        self._held.clear()

    def move(self, given: set[Tensor]) -> None:
        """Updates the parameters that still have a gradient; others rest.

        Args:
            given: Those that have.
        """
        folded = {parameter for bucket in self.buckets for parameter in bucket.parameters}
        still = folded <= given and all(bucket.lies_still() for bucket in self.buckets)
        for bucket in self.buckets if still else self._arrange(folded & given):
            self._move(bucket)
        for bucket in self.buckets:
            bucket.forget()

    def _unscaled(self, whole: Tensor | None) -> Tensor | None:
        if whole is None or self._unscale is None:
            return whole
        return whole * self._unscale.to(whole.device)


def _bytes(bucket: BucketT) -> int:
    return bucket.size * bucket.room_of[1].itemsize


def _widest(norms: Sequence[Tensor]) -> torch.dtype:
    return max((norm.dtype for norm in norms), key=lambda dtype: dtype.itemsize)


def _scratch(buckets: Sequence[BucketT]) -> dict[tuple[torch.device, torch.dtype], Tensor]:
    """For each device and dtype, room for the largest parameter that is not packed."""
    sizes: dict[tuple[torch.device, torch.dtype], int] = {}
    for bucket in buckets:
        if not bucket.packed:
            sizes[bucket.room_of] = max(bucket.size, sizes.get(bucket.room_of, 0))
    return {
        (device, dtype): torch.empty(size, device=device, dtype=dtype)
        for (device, dtype), size in sizes.items()
    }
