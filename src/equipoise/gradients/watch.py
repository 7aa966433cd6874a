"""`Watch`: what is watched in a step, agreed upon between the processes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from torch import Tensor

from equipoise.autograd import shared
from equipoise.autograd.graph import SharingError, edges_of
from equipoise.autograd.shared import Parameters
from equipoise.autograd.targets import Name, Target, Watched, Wrt, listed, watch, watch_leaves
from equipoise.losses import Terms
from equipoise.parallel.common import NOT_ALIKE, CommonLeaves
from equipoise.parallel.ddp import ReplicatedModules
from equipoise.parallel.fsdp import ShardedModules, refuse_flat
from equipoise.parallel.processes import Processes


class Watch:
    """Finds what is watched in a step: a function of its graph, and of the other processes'.

    Args:
        processes: Those of the run.
        sharded: The parameters that FSDP2 manages.
    """

    def __init__(self, processes: Processes, sharded: ShardedModules) -> None:
        self.processes = processes
        self.sharded = sharded
        self._common = CommonLeaves(processes, ReplicatedModules())
        self._last_shared: tuple[Tensor, ...] = ()

    def find(
        self, terms: Terms, wrt: Wrt, trained: Collection[Tensor] | None = None
    ) -> Watched | None:
        """What is watched in this step.

        Args:
            terms: The losses of the step.
            wrt: Where to watch.
            trained: The leaves that this step trains, if that is said.

        Returns:
            The targets, or ``None`` where they cannot be told: for a name, with one loss left of
            several, or where the processes have different losses.

        Raises:
            SharingError: If the losses share nothing, or none reaches what ``wrt`` names.
            TypeError: If the model is in `FullyShardedDataParallel`.
        """
        self.sharded.refuse_absent(terms)
        wrt = self.sharded.in_graph(wrt)
        if self.processes.count > 1:
            refuse_flat(shared.reach(terms.tensors))
        if isinstance(wrt, str):
            return self._named(terms, wrt, trained)
        return self._given(terms, listed(wrt), trained)

    def _named(self, terms: Terms, wrt: Name, trained: Collection[Tensor] | None) -> Watched | None:
        if not terms.everywhere:
            return self._uneven(terms, wrt, trained)
        if len(terms.present) < min(2, len(terms.names)):
            return None
        watched = watch(terms.tensors, wrt, terms.present_names, trained)
        if self.processes.count == 1:
            return watched
        watched = replace(watched, apart=self._everywhere(terms, watched.apart))
        if wrt == "representation":
            return watched
        if wrt == "last_shared":
            layer = self._layer(watched.targets)
            self._last_shared = layer if terms.complete else self._last_shared
            return replace(watched, targets=layer)
        leaves = self._leaves(terms, trained)
        if leaves is None:
            raise SharingError(NOT_ALIKE)
        return Watched(leaves.shared, leaves, apart=leaves.apart)

    def _given(
        self, terms: Terms, targets: tuple[Tensor, ...], trained: Collection[Tensor] | None
    ) -> Watched:
        if self.processes.count == 1:
            return watch(terms.tensors, targets, terms.present_names, trained)
        if not all(target.is_leaf for target in targets):
            return Watched(targets)
        leaves = self._leaves(terms, trained)
        if leaves is None:
            return Watched(targets)
        return watch_leaves(targets, leaves, len(terms.present))

    def _everywhere(self, terms: Terms, apart: Sequence[int]) -> tuple[int, ...]:
        """Of losses apart here, by their tensors, those that are so on all processes, by place."""
        places = [terms.here[i] for i in apart]
        if self.processes.count == 1:
            return tuple(places)
        counted = terms.values().new_zeros(len(terms.present))
        counted[places] = 1
        self.processes.sum([counted])
        return tuple(i for i, n in enumerate(counted.tolist()) if n == self.processes.count)

    def _uneven(self, terms: Terms, wrt: str, trained: Collection[Tensor] | None) -> Watched | None:
        """Where processes have different losses, none of them can tell a layer from its own graph.

        What two losses share somewhere they can tell each other. A layer is then that of the last
        step that had all losses: memory may choose what to watch, nothing else.
        """
        if wrt == "shared":
            leaves = self._leaves(terms, trained)
            if leaves is None or not leaves.shared:
                return None
            return Watched(leaves.shared, leaves, apart=leaves.apart)
        if wrt == "last_shared" and self._last_shared:
            return Watched(self._last_shared)
        return None

    def _layer(self, mine: Sequence[Target]) -> tuple[Tensor, ...]:
        """The last shared layer of each process: one, unless they go different ways."""
        leaves = [target for target in mine if isinstance(target, Tensor)]
        common = self._common.reached(dict.fromkeys(leaves, 1), 1)
        if common is None:
            raise SharingError(NOT_ALIKE)
        return tuple(common)

    def _leaves(self, terms: Terms, trained: Collection[Tensor] | None) -> Parameters | None:
        """The leaves that some process reaches, told apart by which losses do.

        Inputs of the model are each process's own.
        """
        mine = shared.reach(terms.tensors)
        placed = {leaf: _placed(mask, terms.here) for leaf, mask in mine.items()}
        of_model = {leaf: placed.pop(leaf) for leaf in shared.of_model(terms.tensors)}
        common = self._common.reached(of_model, len(terms.present))
        if common is None:
            return None
        roots = [node for node, _ in edges_of(terms.tensors)]
        return shared.told_apart({**common, **placed}, len(terms.present), roots, trained)


def _placed(mask: int, here: Sequence[int]) -> int:
    """A set of this process's losses as a set of those that some process has."""
    return sum(1 << place for i, place in enumerate(here) if mask >> i & 1)
