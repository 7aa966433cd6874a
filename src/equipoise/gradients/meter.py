"""`Meter`: finds what is watched in a step's graph and runs the passes that measure it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from equipoise.autograd import shared
from equipoise.autograd.graph import SharingError
from equipoise.autograd.inputs import named_once, trained_tensors
from equipoise.autograd.shared import is_compiled
from equipoise.autograd.targets import Held, Watched
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.measuring import Measuring
from equipoise.gradients.passes import Passes, stack_rows
from equipoise.gradients.sharded import ShardedPasses
from equipoise.gradients.spread import SpreadPasses
from equipoise.gradients.streamed import StreamedGradients
from equipoise.gradients.watch import Watch
from equipoise.parallel.fsdp import ShardedModules
from equipoise.parallel.processes import Processes

if TYPE_CHECKING:
    from equipoise.autograd.inputs import Trained
    from equipoise.autograd.targets import Target, Wrt
    from equipoise.losses import Terms


@dataclass(frozen=True)
class Measurement:
    """What was measured in a step.

    Attributes:
        gradients: What the method sees: gradients of the losses, without any loss scale.
        passes: The backward passes, with what they found of each loss's own parameters.
        sizes: The number of elements of each target.
        rows: ``[T, P]``, if they are all that is needed of the losses to write ``.grad``: those of
            all that is shared (no further pass), or of the representation (one, from there on).
            They carry the loss scale, and shared inputs of the model behind the watched columns.
    """

    gradients: Gradients
    passes: Passes
    sizes: list[int]
    rows: Tensor | None

    @property
    def input_sizes(self) -> list[int]:
        """The number of elements of each shared input of the model, behind the targets."""
        return self.passes.sizes[len(self.sizes) :]

    def shaped(self, combined: Tensor) -> list[tuple[Target, Tensor]]:
        """A ``[P]`` gradient as one tensor for each target, of its shape and dtype."""
        targets, shaped = self.passes.targets, self.passes.shaped
        parts = combined.split(self.sizes)
        return [(t, shaped(t, part.clone())) for t, part in zip(targets, parts, strict=True)]


class Meter:
    """Measures step after step; keeps what one step can leave to the next.

    Args:
        measuring: What to spend.
        processes: Those of a data-parallel run.
        norms_only: Whether norms are all that is asked for.
        trained: What each step trains, if that is said.
    """

    def __init__(
        self,
        measuring: Measuring,
        processes: Processes,
        *,
        norms_only: bool = False,
        trained: Trained | None = None,
    ) -> None:
        self.measuring = measuring
        self.processes = processes
        self.norms_only = norms_only
        self._trained = Held(named_once(trained))
        self.sharded = ShardedModules()
        self._watch = Watch(processes, self.sharded)
        self._rows: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> Meter:
        """A copy starts afresh: what is kept belongs to one model."""
        trained = self._trained.named
        return Meter(self.measuring, self.processes, norms_only=self.norms_only, trained=trained)

    def __getstate__(self) -> dict[str, object]:
        """As for copies: neither rows nor parameters are pickled."""
        watch = Watch(self.processes, self.sharded)
        return {**self.__dict__, "_watch": watch, "_rows": None}

    def watch(self, terms: Terms, wrt: Wrt) -> Watched | None:
        """What is watched in this step: see `Watch`."""
        return self._watch.find(terms, wrt, self.trained())

    def trained(self) -> Collection[Tensor] | None:
        """The leaves that this step trains, as the graph knows them; ``None`` if nobody said."""
        if self._trained.named is None:
            return None
        leaves: dict[Tensor, Tensor] = {s: leaf for leaf, s in self.sharded.shards().items()}
        return {leaves.get(tensor, tensor) for tensor in trained_tensors(self._trained.named)}

    def run(
        self,
        terms: Terms,
        watched: Watched,
        *,
        retain_graph: bool,
        seed: Tensor | None = None,
        applies: bool = True,
    ) -> Measurement:
        """Measures the gradients of this step.

        Args:
            terms: The losses of the step.
            watched: Where to watch.
            retain_graph: Whether the graph outlives the step.
            seed: A loss scale, which the rows then carry.
            applies: Whether ``.grad`` may be written from the rows; else the graph is kept.

        Returns:
            The gradients, and what is needed to apply them.

        Raises:
            SharingError: If no loss reaches the targets.
        """
        count = len(terms.present)
        apart = watched.apart
        if not (applies and self._stacks(count)):
            watched = Watched(watched.targets)
        passes = self._passes(terms, watched)
        passes.seed = seed
        # A compiled function gives its buffers away for good in a pass that frees its graph.
        onward = watched.heads is not None
        passes.retain_graph = (
            retain_graph or not passes.suffice or (onward and is_compiled(terms.tensors))
        )
        sizes = passes.sizes[: len(watched.targets)]
        gradients, rows = self._measure(passes, sizes)
        if seed is not None:
            gradients = gradients.scaled((1 / seed).expand(count))
        gradients.apart = apart
        return Measurement(gradients, passes, sizes, rows if passes.suffice else None)

    def _passes(self, terms: Terms, watched: Watched) -> Passes:
        """The passes that suit what is watched: a representation, parameters, shards of them."""
        targets, leaves = watched.targets, watched.leaves
        together = self.processes.count > 1
        self.sharded.refuse_absent(terms)
        if not all(isinstance(t, Tensor) and t.is_leaf for t in targets):
            # Several processes need the hooks of a pass from the losses, and so do shards.
            if together:
                return SpreadPasses(terms.places, targets, processes=self.processes)
            if watched.heads is None or self.sharded.shards():
                return Passes(terms.places, targets)
            return Passes(terms.places, targets, own=watched.heads, suffice=True)
        own = leaves.own if leaves else ()
        targets = (*targets, *leaves.inputs) if leaves else targets
        kind: Callable[..., Passes]
        if shards := self.sharded.among(watched.targets):
            kind = partial(ShardedPasses, shards=shards)
        else:
            average = self.processes.average if together else None
            kind = partial(Passes, average=average, inputs=self._inputs(terms))
        return kind(terms.places, targets, own=own, suffice=leaves is not None)

    def _inputs(self, terms: Terms) -> set[Tensor]:
        """Leaves that belong to this process's batch, whose gradients no process averages."""
        if self.processes.count == 1:
            return set()
        return set(shared.reach(terms.tensors)).difference(shared.of_model(terms.tensors))

    def _stacks(self, losses: int) -> bool:
        rows = self.measuring.rows
        return not self.norms_only and (rows is None or rows >= losses)

    def _measure(self, passes: Passes, sizes: list[int]) -> tuple[Gradients, Tensor | None]:
        if not self._stacks(len(passes.losses)):
            return StreamedGradients(passes, sizes, self.measuring.rows, pool=passes.pool), None
        rows = self._room(len(passes.losses), sum(passes.sizes), passes.like)
        stack_rows(passes, rows, passes.sizes, self.measuring.chunk)
        if not passes.reached and passes.average is None:
            msg = "No loss reaches what `wrt` names; pass what the losses were computed from."
            raise SharingError(msg)
        passes.average_own()
        return Gradients(rows[:, : sum(sizes)], sizes, pool=passes.pool), rows

    def _room(self, losses: int, width: int, like: Tensor) -> Tensor:
        """One preallocated tensor, reused from step to step."""
        dtype = self.measuring.dtype
        if dtype is None:
            dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        rows = self._rows
        same = rows is not None and rows.shape == (losses, width) and rows.dtype == dtype
        if rows is None or not same or rows.device != like.device:
            self._rows = rows = torch.empty(losses, width, dtype=dtype, device=like.device)
        return rows
