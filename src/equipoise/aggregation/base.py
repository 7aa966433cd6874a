"""`Aggregation`: a balancer that looks at gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from equipoise.autograd import shared as sharing
from equipoise.autograd.errors import explained
from equipoise.autograd.graph import Parting
from equipoise.balancer import Balancer, BalancerOptions, LooksAt
from equipoise.gradients.apply import BackwardCall, Descent
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.measure import Measured, Measurement
from equipoise.gradients.measuring import Measuring
from equipoise.parallel.fsdp import Sharding

if TYPE_CHECKING:
    from torch import Tensor
    from torch.amp.grad_scaler import GradScaler
    from torch.distributed import ProcessGroup

    from equipoise.autograd.targets import Target, Watched, Wrt
    from equipoise.losses import Losses, LossNames, Terms
    from equipoise.record import Record
    from equipoise.schedules import Priorities


class AggregationOptions(BalancerOptions, total=False):
    """What every aggregation takes by keyword; see `Aggregation`."""

    wrt: Wrt | None
    heads: Literal["weighted", "plain"]
    measuring: Measuring | None


class Aggregation(Balancer):
    """A balancer that looks at gradients.

    A method supplies `_weigh`, or, if it is no weighting of the losses, `_combine` (and declares
    ``weighting = False``).

    Args:
        losses: How many losses there are, or their unique names.
        wrt: Where gradients are watched; ``None`` is what the paper uses.
        heads: Whether parameters that one loss has for itself receive its weighted gradient, or its
            plain one. The literature has both.
        measuring: What to spend on measuring: memory, precision, batched passes.
        priorities: See `Balancer`.
        every: See `Balancer`.
        nonfinite: See `Balancer`.
        process_group: See `Balancer`.

    Raises:
        ValueError: If an option is out of range, or ``every`` is set for a method without weights.
        TypeError: If the method needs whole gradients and the model is in ``fully_shard``.

    Attributes:
        shardable: Whether the formula needs no more of sharded gradients than inner products and
            its own process's columns; ``None``: unless it looks at whole gradients.
    """

    looks_at: ClassVar[LooksAt] = "gramian"
    shardable: ClassVar[bool | None] = None
    default_wrt: ClassVar[Literal["shared", "last_shared", "representation"]] = "shared"

    def __init__(
        self,
        losses: LossNames,
        *,
        wrt: Wrt | None = None,
        heads: Literal["weighted", "plain"] = "weighted",
        measuring: Measuring | None = None,
        priorities: Priorities | None = None,
        every: int = 1,
        nonfinite: Literal["skip", "raise"] = "skip",
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(
            losses,
            priorities=priorities,
            every=every,
            nonfinite=nonfinite,
            process_group=process_group,
        )
        if heads not in ("weighted", "plain"):
            msg = f"`heads` is {heads!r}; write 'weighted' or 'plain'."
            raise ValueError(msg)
        if every != 1 and not self.weighting:
            msg = (
                f"{type(self).__name__} has no weights to reuse between steps; leave `every` at 1."
            )
            raise ValueError(msg)
        self.heads = heads
        self._wrt: tuple[Wrt] = (self.default_wrt if wrt is None else wrt,)  # no submodule of ours
        self._refuse_shards(Sharding(), self._wrt[0])
        self._measurement = Measurement(
            measuring or Measuring(), self.processes, norms_only=self.looks_at == "norms"
        )

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The formula: ``[T]`` weights; reads and advances declared state."""
        raise NotImplementedError

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The formula: the ``[P]`` combined gradient, where the method is no weighting."""
        raise NotImplementedError

    def weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The method's own arithmetic; advances the state.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[T]`` weights.

        Raises:
            TypeError: If the method is no weighting of the losses.
        """
        if not self.weighting:
            msg = f"{type(self).__name__} is no weighting of the losses; call `combine` instead."
            raise TypeError(msg)
        values = self.follow(values.detach())
        if not self._safe(gradients):
            return self.resting.clone()
        weights = self._guarded(
            values, lambda: self._weigh(values, gradients), lambda: self.resting, gradients
        )
        self.resting.copy_(weights)
        return weights

    def combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The combined gradient; advances the state.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[P]``.
        """
        if self.weighting:
            return gradients.combine(self.weigh(values, gradients))
        values = self.follow(values.detach())

        def plain() -> Tensor:
            return gradients.combine(torch.ones_like(values))

        if not self._safe(gradients):
            return plain()
        return self._guarded(values, lambda: self._combine(values, gradients), plain, gradients)

    def _sized(self, name: str, gradients: Gradients) -> Tensor:
        """A piece of state as wide as a gradient; zeros where it had another width before."""
        state: Tensor = getattr(self, name)
        if state.shape[-1] != gradients.width:
            state = state.new_zeros(*state.shape[:-1], gradients.width)
            setattr(self, name, state)
        return state

    def _safe(self, gradients: Gradients) -> bool:
        """State as wide as a gradient is too large to copy and take back: look before."""
        return not self._wide or bool(gradients.norms().isfinite().all())

    @explained()
    def forward(self, losses: Losses) -> Tensor:
        """The balanced loss, a scalar to call ``.backward()`` on.

        Args:
            losses: The losses of this step.

        Returns:
            ``sum_i w_i L_i``, with constant weights. One scalar can give heads weighted gradients
            only: for ``heads="plain"`` call `backward`.

        Raises:
            TypeError: If the method is no weighting of the losses.
        """
        if not self.weighting:
            msg = (
                f"{type(self).__name__} changes gradients, not the weights of losses, so it has no "
                "balanced loss; call `backward(losses)` instead."
            )
            raise TypeError(msg)
        terms, due = self._begin(losses)
        watched = self._watch(terms, None) if due and torch.is_grad_enabled() else None
        gradients = None
        if watched is not None:
            measured = self._measurement.run(terms, watched, retain_graph=True, applies=False)
            gradients = measured.gradients
        weights = self._decide(terms, gradients)
        self._note(terms, weights, gradients)
        return terms.balanced(weights)

    def _watch(self, terms: Terms, wrt: Wrt | None) -> Watched | None:
        watched = self._measurement.watch(terms, self._wrt[0] if wrt is None else wrt)
        if watched is not None:
            self._refuse_shards(self._measurement.sharding, watched.targets)
        return watched

    def _refuse_shards(self, sharding: Sharding, watched: Wrt | Sequence[Target]) -> None:
        if not _takes_shards(type(self)) and sharding.cuts(watched):
            able = sorted(kind.__name__ for kind in _methods(Aggregation) if _takes_shards(kind))
            msg = (
                f"{type(self).__name__} needs whole gradients, of which each process has only a "
                "part on a model in `fully_shard`. These methods do not, and neither does any "
                f"`Weighting`: {', '.join(able)}."
            )
            raise TypeError(msg)

    def _decide(self, terms: Terms, gradients: Gradients | None) -> Tensor:
        """The weights to apply, ``[len(present)]``."""
        values = self.follow(terms.values())
        with self.among(terms.present):
            if gradients is None:
                return self.resting * self.priorities
            scaled = gradients.scaled(self.priorities)
            return self.weigh(values * self.priorities, scaled) * self.priorities

    @explained()
    def backward(
        self,
        losses: Losses,
        *,
        wrt: Wrt | None = None,
        retain_graph: bool = False,
        scaler: GradScaler | None = None,
        backward: BackwardCall | None = None,
    ) -> Record:
        """Balances the losses and accumulates into ``.grad``, as ``Tensor.backward`` does.

        Args:
            losses: The losses of this step.
            wrt: Where gradients are watched in this step; ``None`` is as constructed.
            retain_graph: Whether the graph outlives the call.
            scaler: A ``torch.amp.GradScaler``, in place of ``scaler.scale(loss).backward()``.
            backward: A callable such as ``accelerator.backward``, called once on the balanced loss.

        Returns:
            The record of the step.
        """
        descent = Descent(retain_graph, scaler, backward, self._average)
        terms, due = self._begin(losses)
        watched = self._watch(terms, wrt) if due or not self.weighting else None
        if watched is None:
            weights = self._decide(terms, None)
            self._descend(descent, terms, weights)
            return self._note(terms, weights)
        measured = self._measurement.run(
            terms,
            watched,
            retain_graph=retain_graph,
            seed=descent.seed(terms.tensors),
            applies=backward is None,
        )
        if not self.weighting:
            return self._apply_combined(descent, terms, measured, learns=due)
        weights = self._decide(terms, measured.gradients)
        if measured.rows is None:
            self._descend(descent, terms, weights)
        else:
            self._apply_rows(descent, terms, measured, measured.rows, weights)
        return self._note(terms, weights, measured.gradients)

    def _own_weights(self, terms: Terms, weights: Tensor) -> Tensor:
        if self.heads == "weighted":
            return weights
        with self.among(terms.present):
            return self.priorities.clone()

    def _descend(self, descent: Descent, terms: Terms, weights: Tensor) -> None:
        """One backward pass of the balanced loss; two if heads get plain gradients.

        A compiled function gives its buffers away in a pass that does not keep the graph, and no
        later step could measure through it.
        """
        if sharing.is_compiled(terms.tensors):
            descent = replace(descent, retain_graph=True)
        if self.heads == "weighted":
            descent.weighted(terms, weights)
            return
        parting = Parting(terms.tensors)
        sharing.refuse_parting_in_compiled(parting, "heads='weighted'")
        leaves = sharing.parameters(parting)
        own = [leaf for part in leaves.own for leaf in part]
        rest = [*leaves.shared, *leaves.inputs]
        hooked = self.processes.count > 1 and not descent.sharded(terms)
        if own and (hooked or descent.backward is not None):
            descent.apart(terms, [(own, self._own_weights(terms, weights)), (rest, weights)])
            return
        if own:
            first = replace(descent, retain_graph=True)
            first.weighted(terms, self._own_weights(terms, weights), own)
        descent.weighted(terms, weights, rest)

    def _apply_rows(
        self, descent: Descent, terms: Terms, measured: Measured, rows: Tensor, weights: Tensor
    ) -> None:
        combined = weights.to(rows.dtype) @ rows
        descent.rows(measured.passes, combined, weights, self._own_weights(terms, weights))

    def _apply_combined(
        self, descent: Descent, terms: Terms, measured: Measured, *, learns: bool
    ) -> Record:
        """Applies a combined gradient; what is not watched gets the plain sum of gradients."""
        values = self.follow(terms.values())
        with self.among(terms.present), nullcontext() if learns else self.untouched():
            priorities = self.priorities.clone()
            combined = self.combine(values * priorities, measured.gradients.scaled(priorities))
        seed = measured.passes.seed
        combined = combined if seed is None else combined * seed.to(combined.dtype)
        if measured.rows is None:
            descent.onward(terms, measured.shaped(combined), priorities)
        else:
            inputs = measured.rows[:, combined.numel() :]
            if inputs.numel():
                combined = torch.cat([combined, priorities.to(inputs.dtype) @ inputs])
            descent.rows(measured.passes, combined, priorities, priorities)
        return self._note(terms, priorities, measured.gradients)


def _takes_shards(kind: type[Aggregation]) -> bool:
    return kind.looks_at != "gradients" if kind.shardable is None else kind.shardable


def _methods(kind: type[Aggregation]) -> Iterator[type[Aggregation]]:
    """The classes under this one from which no other is derived."""
    for derived in kind.__subclasses__():
        yield from _methods(derived) if derived.__subclasses__() else (derived,)
