"""`Meter`: finds what is watched in a step's graph and runs the passes that measure it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from equipoise.autograd import shared
from equipoise.autograd.compiled import KeptForPasses, is_compiled
from equipoise.autograd.graph import SharingError
from equipoise.autograd.inputs import Trained, named_once, trained_tensors
from equipoise.autograd.targets import Held, Watched, Wrt
from equipoise.gradients.apply import BackwardPass
from equipoise.gradients.factored import FactoredGradients, ending_at, factorable
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.measurement import Measurement
from equipoise.gradients.measuring import Measuring
from equipoise.gradients.passes import Passes, stack_rows
from equipoise.gradients.sharded import ShardedPasses
from equipoise.gradients.spread import SpreadPasses
from equipoise.gradients.streamed import StreamedGradients
from equipoise.gradients.watch import Watch
from equipoise.losses import Terms
from equipoise.parallel import zero
from equipoise.parallel.fsdp import ShardedModules
from equipoise.parallel.processes import Processes

Needs: TypeAlias = Literal["norms", "gramian", "gradients"]
"""What a method asks for of gradients: norms, inner products and combinations, or all."""


class Meter:
    """Measures step after step; keeps what one step can leave to the next.

    Args:
        measuring: What to spend.
        processes: Those of a data-parallel run.
        needs: What will be asked for.
        trained: What each step trains, if that is said.
    """

    def __init__(
        self,
        measuring: Measuring,
        processes: Processes,
        *,
        needs: Needs = "gradients",
        trained: Trained | None = None,
    ) -> None:
        self.measuring = measuring
        self.processes = processes
        self.needs = needs
        self._trained = Held(named_once(trained))
        self.sharded = ShardedModules()
        self._watch = Watch(processes, self.sharded)
        self._rows: Tensor | None = None
        self.keeping = KeptForPasses()

    def __deepcopy__(self, memo: dict[int, object]) -> Meter:
        """A copy starts afresh: what is kept belongs to one model."""
        trained = self._trained.named
        return Meter(self.measuring, self.processes, needs=self.needs, trained=trained)

    def __getstate__(self) -> dict[str, object]:
        """As for copies: neither rows nor parameters are pickled."""
        watch = Watch(self.processes, self.sharded)
        return {**self.__dict__, "_watch": watch, "_rows": None}

    def watch(self, terms: Terms, wrt: Wrt) -> Watched | None:
        """What is watched in this step: see `Watch`."""
        return self._watch.find(terms, wrt, self.trained())

    @property
    def named_trained(self) -> Trained | None:
        """What each step trains, as it was named."""
        return self._trained.named

    def trained(self) -> Collection[Tensor] | None:
        """The leaves that this step trains, as the graph knows them; ``None`` if nobody said."""
        if self._trained.named is None:
            return None
        leaves: dict[Tensor, Tensor] = {s: leaf for leaf, s in self.sharded.shards().items()}
        return {leaves.get(tensor, tensor) for tensor in trained_tensors(self._trained.named)}

    def run_before(self, terms: Terms, watched: Watched, how: BackwardPass) -> Measurement:
        """Measures the gradients of a step that goes backward afterwards.

        Args:
            terms: The losses of the step.
            watched: Where to watch.
            how: How it goes backward.

        Returns:
            As `run`.
        """
        with zero.measuring(how.backward, watched.targets):
            return self.run(
                terms,
                watched,
                retain_graph=how.retain_graph,
                seed=how.seed(terms.tensors),
                applies=how.backward is None,
            )

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
            TypeError: If the model is partitioned by ZeRO 3: see `zero.refuse_partitioned`.
        """
        zero.refuse_partitioned(terms.tensors)
        if any(isinstance(target, Tensor) for target in watched.targets):  # no representation
            self.keeping.warn(terms.tensors)
        count = len(terms.present)
        apart = watched.apart
        keeps = self._keeps(count, watched, applies=applies)
        if not (applies and keeps):
            watched = Watched(watched.targets)
        passes = self._passes(terms, watched)
        passes.seed = seed
        # A compiled function gives its buffers away for good in a pass that frees its graph.
        onward = watched.heads is not None
        passes.retain_graph = (
            retain_graph or not passes.suffice or (onward and is_compiled(terms.tensors))
        )
        sizes = passes.sizes[: len(watched.targets)]
        found = self._kept(passes, sizes) if keeps else self._streamed(passes, sizes)
        gradients = found.gradients
        if seed is not None:
            gradients = gradients.scaled((1 / seed).expand(count))
        gradients.apart = apart
        if not passes.suffice:
            return Measurement(gradients, passes, sizes)
        return replace(found, gradients=gradients)

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

    def _keeps(self, losses: int, watched: Watched, *, applies: bool) -> bool:
        """Whether all rows are kept; for norms alone only where that saves the pass on top."""
        norms_only = self.needs == "norms"
        if norms_only and not (applies and watched.leaves):
            return False
        nbytes = 4 * sum(watched.sizes)
        return self.measuring.keeps(losses, norms_only=norms_only, nbytes=nbytes)

    def _streamed(self, passes: Passes, sizes: list[int]) -> Measurement:
        rows = self.measuring.rows
        return Measurement(StreamedGradients(passes, sizes, rows, pool=passes.pool), passes, sizes)

    def _kept(self, passes: Passes, sizes: list[int]) -> Measurement:
        found = self._factored(passes, sizes) or self._stacked(passes, sizes)
        if not passes.reached and passes.average is None:
            msg = "No loss reaches what `wrt` names; pass what the losses were computed from."
            raise SharingError(msg)
        passes.average_own()
        return found

    def _factored(self, passes: Passes, sizes: list[int]) -> Measurement | None:
        """Without the gradients of affine layers, where nobody looks at them and that pays."""
        inputs = len(passes.targets) > len(sizes)
        if self.needs != "gramian" or self.measuring.dtype is not None or inputs:
            return None
        count = len(passes.losses)
        layers = [layer for layer in factorable(passes) if layer.pays_for_rows(count)]
        if not layers:
            return None
        above = ending_at(passes, layers)
        rows = self._room(count, sum(above.sizes), passes.like)
        stack_rows(above, rows, above.sizes, self.measuring.chunk)
        passes.own_gradients, passes.reached = above.own_gradients, above.reached
        found = FactoredGradients(rows, layers, passes.targets)
        return Measurement(found, passes, sizes, factored=found)

    def _stacked(self, passes: Passes, sizes: list[int]) -> Measurement:
        rows = self._room(len(passes.losses), sum(passes.sizes), passes.like)
        stack_rows(passes, rows, passes.sizes, self.measuring.chunk)
        found = Gradients(rows[:, : sum(sizes)], sizes, pool=passes.pool)
        return Measurement(found, passes, sizes, rows=rows)

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
