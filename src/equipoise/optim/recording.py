"""What a multi-term optimizer keeps on record of a step, and whom it tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from equipoise.losses import Terms
from equipoise.optim.under_way import UnderWay
from equipoise.parts.hooks import Hook, RecordHooks
from equipoise.record import Record


@dataclass(frozen=True)
class Taken:
    """What was measured of one loss's gradients as they were folded in.

    Attributes:
        loss: Its position.
        norms: ``[n]``, that of the gradient of each parameter.
        scales: ``[n]``, what each was multiplied with; ``None`` is one.
        kept: Whether they were folded in; a boolean scalar where the device decides.
    """

    loss: int
    norms: Tensor
    scales: Tensor | None
    kept: bool | Tensor


def record_of(
    names: tuple[str, ...],
    values: Mapping[int, Tensor],
    taken: Sequence[Taken],
    constants: Mapping[int, Tensor],
) -> Record:
    """The record of a step, as a balancer would leave it.

    Args:
        names: Those of the ``T`` losses.
        values: Detached, of the losses that the step has, by position.
        taken: What was measured; nothing of a step that was skipped.
        constants: Of losses without a graph, which count as absent, by position.

    Returns:
        The record. A weight is the norm of the multiplied gradient over that of the gradient, both
        over all parameters; zero for a loss that was left out.
    """
    like = next(iter(values.values()))
    losses = like.new_full((len(names),), torch.nan)
    weights, norms = torch.zeros_like(losses), torch.full_like(losses, torch.nan)
    for i, value in [*constants.items(), *values.items()]:
        losses[i] = value
    if taken:
        places = [one.loss for one in taken]
        found = _norms_and_weights(taken)
        norms[places], weights[places] = (part.to(weights) for part in found)
    return Record(
        names=names,
        present=tuple(sorted(values)),
        losses=losses,
        weights=weights,
        total=losses[sorted({*values, *constants})].sum(),
        norms=norms if taken else None,
    )


def _norms_and_weights(taken: Sequence[Taken]) -> tuple[Tensor, Tensor]:
    """``[k]`` each, for the losses that were measured."""
    each = torch.stack([one.norms for one in taken])
    scaled = [one.norms if one.scales is None else one.norms * one.scales for one in taken]
    kept = torch.stack([torch.as_tensor(one.kept, device=each.device) for one in taken])
    norms = torch.linalg.vector_norm(each, dim=1)
    weights = torch.linalg.vector_norm(torch.stack(scaled), dim=1) / norms
    weights = torch.where(norms > 0, weights, 1.0)
    return norms, torch.where(kept, weights, 0.0)


class Recorded(Optimizer):
    """An optimizer for several losses that leaves records, as a balancer does."""

    _now: UnderWay[Any]

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the losses; ``None`` while neither given nor seen."""
        names = self.param_groups[0]["losses"]
        return None if names is None else tuple(names)

    @property
    def last(self) -> Record | None:
        """The record of the last `backward` that ended in a step, ``None`` before the first.

        A weight is what a loss's gradient became longer by: its norm after balancing over that
        before, over all parameters. `AutoBalance` multiplies no gradient: its weights are one.
        """
        if self._now.last is None and self._now.noted is not None:
            self._now.last = self._now.noted()
        return self._now.last

    @property
    def weights(self) -> dict[str, float]:
        """What each loss's gradient was multiplied with in the last step; see `last`."""
        names = self.names or ()
        applied = [1.0] * len(names) if self.last is None else self.last.weights.tolist()
        return dict(zip(names, applied, strict=True))

    def report(self) -> dict[str, float]:
        """The last record as flat numbers: see `Record.report`.

        Raises:
            RuntimeError: If there was no step yet.
        """
        if self.last is None:
            msg = "There was no step yet; call `backward(losses)` first."
            raise RuntimeError(msg)
        return self.last.report()

    def register_record_hook(self, fn: Hook, *, every: int = 1) -> RemovableHandle:
        """Registers what is called after each `backward` that ends in a step.

        Inside `accumulate` none does; a step that is skipped for a loss that is not finite is one.

        Args:
            fn: ``fn(optimizer, record, step)``, with the record of the step, whose reading
                synchronises, and the number of steps that came before it, which is saved.
            every: Calls it at each ``every``-th step only, the first included.

        Returns:
            A handle whose ``remove()`` takes it out again. As hooks of ``torch.optim`` it stays
            with this optimizer: copies and checkpoints have none.
        """
        return self._record_hooks.register(fn, every)

    def register_record_pre_hook(self, fn: Hook, *, every: int = 1) -> RemovableHandle:
        """Registers what is called before the losses of a step go backward.

        Args:
            fn: ``fn(optimizer, losses, step)``, with the live losses by name, of the last
                micro-batch. Whatever it does with the graph, it must keep it.
            every: As for `register_record_hook`.

        Returns:
            A handle whose ``remove()`` takes it out again.
        """
        return self._record_pre_hooks.register(fn, every)

    def _begin_record(self) -> None:
        # As in torch.optim hooks outlive the loading of a state, and copies start without them.
        if "_record_hooks" not in self.__dict__:
            self._record_hooks, self._record_pre_hooks = RecordHooks(), RecordHooks()

    def _opens(self, terms: Terms) -> None:
        """Tells who asked for it that a step is about to go backward."""
        step = self.param_groups[0]["steps"]
        if self._record_pre_hooks.due(step):
            names = [terms.present_names[place] for place in terms.here]
            self._record_pre_hooks.call(self, dict(zip(names, terms.tensors, strict=True)), step)

    def _closes(
        self,
        values: Mapping[int, Tensor],
        measured: Sequence[Taken],
        constants: Mapping[int, Tensor],
    ) -> None:
        """Counts the step and tells who asked for it; the record is made when it is read."""
        self._now.last = None
        self._now.noted = partial(record_of, self.names or (), values, measured, constants)
        step = self.param_groups[0]["steps"]
        for group in self.param_groups:  # where it is saved
            group["steps"] = step + 1
        if self._record_hooks.due(step):
            self._record_hooks.call(self, self.last, step)
