"""One MTAdam step in the making: the gradients of the losses folded in one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.optim.bucket import Bucket
from equipoise.optim.norms import Balance, unit_norms


class Fold:
    """Takes the gradients of one loss after the other, lets go of each, and then moves.

    Args:
        buckets: Those of the parameters that the step reaches.
        parameters: The parameters to which the gradients belong, in their order.
        units: Over which parameters one norm is taken, see :func:`unit_norms`.
        keep: Where decisions stay on the device: a boolean scalar, whether all losses are finite.
            ``None`` where the host decides.
        unscale: One over the scale that the losses were multiplied with by a ``GradScaler``, which
            decides later whether the step happens: until then no state may move.
    """

    def __init__(
        self,
        buckets: Sequence[Bucket],
        parameters: Sequence[Tensor],
        *,
        units: Tensor | None = None,
        keep: Tensor | None = None,
        unscale: Tensor | None = None,
    ) -> None:
        places = {parameter: place for place, parameter in enumerate(parameters)}
        self.buckets = list(buckets)
        self.losses: int | Tensor = 0
        self._places = [[places[p] for p in bucket.parameters] for bucket in buckets]
        self._balance = _balance(self.buckets)
        self._units = units
        self._keep = keep
        self._unscale = unscale
        self._held: list[tuple[int, list[Tensor | None]]] = []
        self._scratch = _scratch(self.buckets)
        for bucket in self.buckets:
            bucket.forget()

    def rest(self, loss: int) -> None:
        """Leaves the state of a loss that the step does not have as it is."""
        self._balance.rest(loss)

    def take(self, loss: int, rank: float, gradients: Sequence[Tensor | None]) -> bool | Tensor:
        """Balances the gradients of one loss and folds them in.

        Args:
            loss: Its position; positions ascend.
            rank: How large its gradient is to be, relative to the anchor's.
            gradients: One for each parameter; ``None`` where the loss does not reach it.

        Returns:
            Whether they were finite; if not, the loss rests. A boolean scalar where decisions stay
            on the device, true as well where the whole step is left out.
        """
        parts = [[gradients[place] for place in places] for places in self._places]
        each = [bucket.measure(part) for bucket, part in zip(self.buckets, parts, strict=True)]
        measured = torch.cat([norms.to(self._balance.norms) for norms in each])
        if self._unscale is not None:
            measured = measured * self._unscale.to(measured)
        measured = unit_norms(measured, self._units)
        finite = torch.isfinite(measured).all()
        if self._unscale is not None:
            self._hold(loss, self._scales(loss, measured, rank, finite), parts)
            return True
        if self._keep is None and not bool(finite):
            self.rest(loss)
            return False
        keep = None if self._keep is None else finite & self._keep.to(finite.device)
        scales = torch.split(self._balance.scale(loss, measured, rank, keep), self._counts)
        for bucket, part, scale in zip(self.buckets, parts, scales, strict=True):
            balanced = bucket.balanced(part, scale, keep, self._scratch[bucket.scratch[:2]])
            bucket.fold(loss, balanced, keep)
            bucket.add(balanced)
        self.losses = self.losses + (1 if keep is None else keep)
        return True if self._keep is None else finite | ~self._keep.to(finite.device)

    @property
    def awaits_scaler(self) -> bool:
        """Whether a ``GradScaler`` has yet to decide if the step happens."""
        return self._unscale is not None

    @property
    def happens(self) -> bool | Tensor:
        """Whether any loss was folded in; a boolean scalar where decisions stay on the device."""
        return self.losses > 0

    @property
    def _counts(self) -> list[int]:
        return [len(places) for places in self._places]

    def _scales(self, loss: int, measured: Tensor, rank: float, finite: Tensor) -> Sequence[Tensor]:
        scale = self._balance.scale(loss, measured, rank, None)
        # A norm can overflow where no gradient did; the scaler must see that too.
        return torch.split(torch.where(finite, scale, torch.nan), self._counts)

    def _hold(
        self, loss: int, scales: Sequence[Tensor], parts: Sequence[Sequence[Tensor | None]]
    ) -> None:
        held: list[Tensor | None] = []
        for bucket, part, scale in zip(self.buckets, parts, scales, strict=True):
            balanced = bucket.balanced(part, scale, None)
            bucket.add(balanced)
            held.append(balanced)
        self._held.append((loss, held))
        self.losses = self.losses + 1

    @property
    def _happens_there(self) -> Tensor | None:
        """The same for a bucket: ``None`` where the host has decided."""
        return self.happens if isinstance(self.happens, Tensor) else None

    def publish(self) -> None:
        """Writes the sum of the balanced gradients to ``.grad``, NaN if no step will happen."""
        for bucket in self.buckets:
            bucket.publish(self._happens_there)

    def settle(self) -> None:
        """Makes the norms, and what was held for a scaler, part of the state."""
        for loss, held in self._held:
            for bucket, scaled in zip(self.buckets, held, strict=True):
                bucket.fold(loss, self._unscaled(scaled), None)
        self._held.clear()
        norms = torch.split(self._balance.norms, self._counts, dim=1)
        for bucket, mean in zip(self.buckets, norms, strict=True):
            bucket.norms.copy_(mean)

    def _unscaled(self, scaled: Tensor | None) -> Tensor | None:
        if scaled is None or self._unscale is None:
            return scaled
        return scaled * self._unscale.to(scaled.device)

    def move(self, buckets: Sequence[Bucket]) -> None:
        """Updates the first moment and the parameters of the given buckets."""
        for bucket in buckets:
            bucket.step(self.losses, self._happens_there)
        for bucket in self.buckets:
            bucket.forget()


def _balance(buckets: Sequence[Bucket]) -> Balance:
    like = max((bucket.norms for bucket in buckets), key=Tensor.element_size)
    norms = torch.cat([bucket.norms.to(like) for bucket in buckets], dim=1)
    rates = {bucket.group["betas"][2] for bucket in buckets}
    if len(rates) == 1:
        return Balance(norms, rates.pop())
    each = [like.new_full(bucket.norms[0].shape, bucket.group["betas"][2]) for bucket in buckets]
    return Balance(norms, torch.cat(each))


def _scratch(buckets: Sequence[Bucket]) -> dict[tuple[torch.device, torch.dtype], Tensor]:
    """For each device and dtype, room for the largest parameter that is not packed."""
    sizes: dict[tuple[torch.device, torch.dtype], int] = {}
    for device, dtype, size in (bucket.scratch for bucket in buckets):
        sizes[device, dtype] = max(size, sizes.get((device, dtype), 0))
    return {
        (device, dtype): torch.empty(size, device=device, dtype=dtype)
        for (device, dtype), size in sizes.items()
    }
