"""How weights, or a combined gradient, reach ``.grad``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from equipoise.autograd import shared as sharing
from equipoise.autograd.accumulate import accumulate, surrogate
from equipoise.autograd.fabric import permitted
from equipoise.autograd.graph import SharingError

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

    from equipoise.autograd.targets import Target
    from equipoise.gradients.passes import Passes
    from equipoise.losses import Terms
    from equipoise.parallel.averaging import GradientAverage

BackwardCall: TypeAlias = Callable[[Tensor], object]
"""Stands for ``Tensor.backward``: ``accelerator.backward`` or ``fabric.backward``."""


@dataclass(frozen=True)
class Descent:
    """How this step goes backward.

    Attributes:
        retain_graph: Whether the graph outlives the step.
        scaler: Scales the losses against underflow, as for ``scaler.scale(loss).backward()``.
        backward: Called once on the balanced loss in place of ``Tensor.backward``.
        average: Averages ``.grad`` over the processes of a data-parallel run.
    """

    retain_graph: bool = False
    scaler: GradScaler | None = None
    backward: BackwardCall | None = None
    average: GradientAverage | None = None

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

    def weighted(self, terms: Terms, weights: Tensor, inputs: Sequence[Tensor] = ()) -> None:
        """One backward pass of the balanced loss.

        Args:
            terms: The losses of the step.
            weights: ``[len(present)]``.
            inputs: The leaves that receive a gradient; none named means all.
        """
        leaves = self.average.unhooked(terms) if self.average is not None else ()
        if self.backward is not None:
            self.backward(terms.balanced(weights))
        else:
            self._run(terms, weights, inputs)
        if self.average is not None:
            self.average.apply(leaves)

    def apart(self, terms: Terms, parts: Sequence[tuple[Sequence[Tensor], Tensor]]) -> None:
        """Leaves whose losses are weighted differently, without the hooks of a backward pass.

        Args:
            terms: The losses of the step.
            parts: Leaves, with the weights ``[len(present)]`` of their gradient.
        """
        if self.backward is not None:
            self.sharded(terms)
        unaveraged = self.average.unhooked(terms) if self.average is not None else ()
        found = [
            reached
            for leaves, weights in parts
            for reached in _gradients(
                terms.tensors, leaves, self._seeds(terms, weights), retain_graph=True
            )
        ]
        if self.backward is None:
            self._write_averaged(terms, found)
            return
        self.write([leaf for leaf, _ in found], [gradient for _, gradient in found])
        if self.average is not None:
            self.average.apply(unaveraged)

    def _run(self, terms: Terms, weights: Tensor, inputs: Sequence[Tensor]) -> None:
        torch.autograd.backward(
            terms.tensors,
            self._seeds(terms, weights),
            retain_graph=self.retain_graph,
            inputs=tuple(inputs) or None,
        )

    def rows(self, passes: Passes, combined: Tensor, weights: Tensor, own_weights: Tensor) -> None:
        """Writes ``.grad`` from gradients that are known already.

        No further pass is needed where the targets are the graph's leaves; else one goes on from
        the representation.

        Args:
            passes: The passes that measured.
            combined: ``[P]``, the combined gradient of all targets, scaled as the passes were.
            weights: ``[len(present)]``, those of the losses.
            own_weights: ``[len(present)]``, the weights of each loss's own parameters.
        """
        shared = zip(passes.targets, combined.split(passes.sizes), strict=True)
        found = [*shared, *_own_sums(passes, weights, own_weights)]
        shaped = [(target, passes.shaped(target, gradient)) for target, gradient in found]
        edges = [pair for pair in shaped if not isinstance(pair[0], Tensor)]
        leaves = [(leaf, g) for leaf, g in shaped if isinstance(leaf, Tensor)]
        self.write([passes.holder(leaf) for leaf, _ in leaves], [g for _, g in leaves])
        if edges:
            torch.autograd.backward(
                [edge for edge, _ in edges],  # type: ignore[arg-type]  # torch takes edges too
                [gradient for _, gradient in edges],
                retain_graph=passes.retain_graph,
            )

    def write(self, leaves: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Accumulates gradients into ``.grad``, through ``backward`` where that was given."""
        if self.backward is not None:
            self.backward(surrogate(leaves, gradients))
            return
        accumulate(leaves, gradients)

    def onward(
        self, terms: Terms, combined: Sequence[tuple[Target, Tensor]], plain: Tensor
    ) -> None:
        """Goes on backward from the targets with combined gradients; the rest is summed plainly.

        Args:
            terms: The losses of the step.
            combined: Each target (a graph tensor, an edge, or a leaf) with its gradient, scaled as
                the passes were.
            plain: ``[len(present)]``, the weights of what does not lie below the targets.
        """
        targets = [target for target, _ in combined]
        below = sharing.leaves_below(targets)
        above = sharing.leaves_around(terms.tensors, targets)
        if set(above) & set(below):
            msg = (
                "Some parameters are reached both through what `wrt` names and around it (tied "
                "weights, or a connection that skips it), so gradients cannot be combined there. "
                "Write wrt='shared'."
            )
            raise SharingError(msg)
        if self.average is not None and self.sharded(terms):
            losses, seeds = terms.tensors, self._seeds(terms, plain)
            self.average.sharding.onward(
                losses, seeds, combined, above, retain_graph=self.retain_graph
            )
            return
        onward = [gradient for _, gradient in combined]
        found = [
            *_gradients(terms.tensors, above, self._seeds(terms, plain), retain_graph=True),
            *_gradients(targets, below, onward, retain_graph=self.retain_graph),
        ]
        self._write_averaged(terms, found)

    def _write_averaged(self, terms: Terms, found: list[tuple[Tensor, Tensor]]) -> None:
        """Writes gradients that fired no hooks, averaged over the processes."""
        if self.average is not None and (leaves := self.average.leaves(terms)):
            gradients = dict(found)
            found = [(leaf, gradients.get(leaf, torch.zeros_like(leaf))) for leaf in leaves]
            self.average.processes.average([gradient for _, gradient in found])
        self.write([leaf for leaf, _ in found], [gradient for _, gradient in found])

    def sharded(self, terms: Terms) -> bool:
        """Whether the model is sharded, where only an ordinary backward pass goes.

        Raises:
            TypeError: If there is a callable that would stand for it.
        """
        if self.average is None or not self.average.sharding.reached_by(terms.tensors):
            return False
        if self.backward is not None:
            msg = (
                "`backward` is called once on a balanced loss, but combined gradients and plain "
                "heads take another way on a model in `fully_shard`. Leave it out, or use a "
                "weighting of the losses with heads='weighted'."
            )
            raise TypeError(msg)
        return True

    def _seeds(self, terms: Terms, weights: Tensor) -> list[Tensor]:
        """What each loss's gradient starts from: its weight, times the loss scale."""
        seed = self.seed(terms.tensors)
        weights = weights if seed is None else weights * seed.to(weights.dtype)
        mine = zip(terms.mine(weights), terms.tensors, strict=True)
        return [weight.to(loss.dtype) for weight, loss in mine]


def _own_sums(
    passes: Passes, weights: Tensor, own_weights: Tensor
) -> Iterable[tuple[Tensor, Tensor]]:
    """The gradient of each leaf that the passes kept beside the targets, weighted and summed."""
    losses = Counter(leaf for own in passes.own for leaf in own)
    sums: dict[Tensor, Tensor] = {}
    kept = zip(passes.own, passes.own_gradients, weights, own_weights, strict=True)
    for own, found, weight, own_weight in kept if passes.own else ():
        for leaf, gradient in zip(own, found, strict=True):
            if gradient is not None:
                chosen = own_weight if losses[leaf] == 1 else weight
                weighted = gradient * chosen.to(gradient.dtype)
                sums[leaf] = sums[leaf] + weighted if leaf in sums else weighted
    return sums.items()


@permitted()
def _gradients(
    roots: Sequence[Target],
    leaves: Sequence[Tensor],
    seeds: Sequence[Tensor],
    *,
    retain_graph: bool,
) -> list[tuple[Tensor, Tensor]]:
    """The leaves that are reached, each with its gradient."""
    if not leaves:
        return []
    found = torch.autograd.grad(
        list(roots),  # type: ignore[arg-type]  # tensors and edges side by side are taken
        list(leaves),
        list(seeds),
        retain_graph=retain_graph,
        allow_unused=True,
    )
    return [(leaf, g) for leaf, g in zip(leaves, found, strict=True) if g is not None]
