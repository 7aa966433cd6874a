"""`BackwardPass`: how the update of a step reaches ``.grad``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from equipoise.autograd import shared
from equipoise.autograd.accumulate import backward as go_backward
from equipoise.autograd.accumulate import surrogate
from equipoise.autograd.fabric import permitted
from equipoise.autograd.graph import SharingError
from equipoise.gradients.update import Update, gradients_at
from equipoise.parallel.fsdp import exchanged
from equipoise.parallel.zero import BackwardCall, stage_of

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

    from equipoise.autograd.targets import Target
    from equipoise.losses import Terms
    from equipoise.parallel.averaging import GradientAverage

"""Stands for ``Tensor.backward``: ``accelerator.backward`` or ``fabric.backward``."""


@dataclass(frozen=True)
class BackwardPass:
    """How this step goes backward.

    Attributes:
        average: Averages ``.grad`` over the processes of a data-parallel run.
        retain_graph: Whether the graph outlives the step.
        scaler: Scales the losses against underflow, as for ``scaler.scale(loss).backward()``.
        backward: Called once on the balanced loss in place of ``Tensor.backward``.
    """

    average: GradientAverage
    retain_graph: bool = False
    scaler: GradScaler | None = None
    backward: BackwardCall | None = None

    def __post_init__(self) -> None:
        """Refuses two ways of scaling at once."""
        if self.scaler is not None and self.backward is not None:
            msg = "Pass `scaler` or `backward`, not both: the callable does its own scaling."
            raise ValueError(msg)

    def seed(self, losses: Sequence[Tensor]) -> Tensor | None:
        """What the losses' gradient starts from: the loss scale, or ``None`` for one."""
        if self.scaler is None or not self.scaler.is_enabled():
            return None
        one = torch.ones((), dtype=torch.float32, device=losses[0].device)
        scaled: Tensor = self.scaler.scale(one)
        return scaled

    def seeds(self, terms: Terms, weights: Tensor) -> list[Tensor | None]:
        """What each loss's gradient starts from: its weight, times the loss scale.

        Args:
            terms: The losses of the step.
            weights: ``[len(present)]``.
        """
        seed = self.seed(terms.tensors)
        weights = weights if seed is None else weights * seed.to(weights.dtype)
        mine = zip(terms.mine(weights), terms.tensors, strict=True)
        return [weight.to(loss.dtype) for weight, loss in mine]

    def weighted(self, terms: Terms, weights: Tensor, inputs: Sequence[Tensor] = ()) -> Update:
        """The update of the balanced loss.

        Args:
            terms: The losses of the step.
            weights: ``[len(present)]``.
            inputs: The leaves that receive a gradient; none named means all.
        """
        return Update(terms.tensors, self.seeds(terms, weights), inputs)

    @permitted()
    def found(self, updates: Sequence[Update], leaves: Sequence[Tensor]) -> Update:
        """The same updates as one, made of the gradients themselves.

        Args:
            updates: Of which the graph is kept.
            leaves: That are reached.
        """
        gradients = gradients_at(updates, leaves, retain_graph=True)
        there = [(leaf, g) for leaf, g in zip(leaves, gradients, strict=True) if g is not None]
        return Update([leaf for leaf, _ in there], [gradient for _, gradient in there])

    def onward(
        self, terms: Terms, combined: Sequence[tuple[Target, Tensor]], plain: Tensor
    ) -> list[Update]:
        """On from the targets with combined gradients; what lies around them is summed plainly.

        Args:
            terms: The losses of the step.
            combined: Each target (a graph tensor, an edge, or a leaf) with its gradient, scaled as
                the passes were.
            plain: ``[len(present)]``, the weights of what does not lie below the targets.

        Raises:
            SharingError: If a parameter is reached both through the targets and around them.
        """
        targets = [target for target, _ in combined]
        around = self.weighted(terms, plain)
        below = shared.leaves_below(targets)
        above = shared.leaves_around(terms.tensors, targets)
        if set(above) & set(below):
            msg = (
                "Some parameters are reached both through what `wrt` names and around it (tied "
                "weights, or a connection that skips it), so gradients cannot be combined there. "
                "Write wrt='shared'."
            )
            raise SharingError(msg)
        if self.average.sharded.reached_by(terms.tensors):
            return self._onward_in_shards(around, combined, above)
        onward = Update(targets, [gradient for _, gradient in combined])
        around = replace(around, inputs=above)
        updates = [self.found([around], above), onward] if above else [onward]
        return updates if self.backward is None else [self.found(updates, [*above, *below])]

    def _onward_in_shards(
        self, around: Update, combined: Sequence[tuple[Target, Tensor]], above: Sequence[Tensor]
    ) -> list[Update]:
        """The same by ordinary passes from the losses, which FSDP's hooks need."""
        self.refuse_callable()
        shards = self.average.sharded.shards()
        held = [(shards[t], g) for t, g in combined if t in shards]  # type: ignore[index]
        if not held:
            return [replace(around, exchanged=combined)]
        known = Update([shard for shard, _ in held], [g for _, g in held], averaged=True)
        return [replace(around, inputs=above), known] if above else [known]

    def refuse_callable(self) -> None:
        """Raises a ``TypeError`` where a callable cannot stand for what a sharded model needs."""
        if self.backward is not None:
            msg = (
                "`backward` is called once on a balanced loss, but combined gradients and plain "
                "heads take another way on a model in `fully_shard`. Leave it out, or use a "
                "weighting of the losses with heads='weighted'."
            )
            raise TypeError(msg)

    def run(self, updates: Sequence[Update], terms: Terms) -> None:
        """Accumulates updates into ``.grad``.

        Args:
            updates: Together they reach each leaf once.
            terms: The losses of the step.
        """
        averaged = all(update.averaged for update in updates)
        # The engine of DeepSpeed reduces gradients into partitions, and `.grad` stays empty.
        done = averaged or stage_of(self.backward) is not None
        unhooked = () if done else self.average.unhooked(terms)
        if self.average.processes.count > 1 and self.backward is None:
            updates = self._for_every_hook(updates, terms)
        roots = [root for update in updates for root in update.roots]
        with self.average.replicated.writing(roots):
            for number, update in enumerate(updates, 1):
                last = number == len(updates)
                retain_graph = self.retain_graph or update.retain_graph or not last
                self._run(update, retain_graph=retain_graph)
        self.average.apply(unhooked)

    def _for_every_hook(self, updates: Sequence[Update], terms: Terms) -> Sequence[Update]:
        """Adds the leaves that wait for their hooks: those that a pass from the losses would visit.

        A data-parallel wrapper that looks for unused parameters sends all outputs of the model
        through one node, so that a pass from one loss visits the heads of all, with no gradient.
        """
        roots = [root for update in updates for root in update.roots]
        losses = set(terms.tensors)
        if any(root in losses for root in roots) or self.average.sharded.shards():
            return updates
        reached = set(shared.leaves_below(roots))
        missing = [leaf for leaf in shared.leaves_below(terms.tensors) if leaf not in reached]
        return [*updates, Update(missing, [None] * len(missing))] if missing else updates

    def _run(self, update: Update, *, retain_graph: bool) -> None:
        if self.backward is None:
            with exchanged(update.exchanged):
                go_backward(
                    update.roots, update.seeds, retain_graph=retain_graph, inputs=update.inputs
                )
            return
        pairs = zip(update.roots, update.seeds, strict=True)
        known = [(r, g) for r, g in pairs if isinstance(r, Tensor) and g is not None]
        self.backward(surrogate([root for root, _ in known], [gradient for _, gradient in known]))

    def keeping_graph(self) -> BackwardPass:
        """The same, of which the graph outlives the step."""
        return replace(self, retain_graph=True)
