"""`.grad` averaged over the processes, where no wrapper does it.

Gradients of a data-parallel run are means over the processes, a loss that one process lacks
counting as zero there: so `DistributedDataParallel` averages. What is measured is averaged alike.
``torch.autograd.grad`` fires no hook of a wrapper; whatever accumulates into ``.grad`` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.autograd import shared
from equipoise.autograd.graph import SharingError
from equipoise.losses import Terms
from equipoise.parallel.common import NOT_ALIKE, CommonLeaves
from equipoise.parallel.ddp import ReplicatedModules
from equipoise.parallel.fsdp import ShardedModules, is_flat, refuse_flat
from equipoise.parallel.processes import Processes


class GradientAverage:
    """Averages ``.grad`` after a backward pass, where no wrapper does it.

    Args:
        processes: Those of the run.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.sharded = ShardedModules()
        self.replicated = ReplicatedModules()
        self._common = CommonLeaves(processes, self.replicated)
        self._plain: bool | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> GradientAverage:
        """A copy starts afresh: what is kept belongs to one model."""
        return GradientAverage(self.processes)

    def __reduce__(self) -> tuple[type[GradientAverage], tuple[Processes]]:
        """As for copies."""
        return GradientAverage, (self.processes,)

    def leaves(self, terms: Terms) -> tuple[Tensor, ...]:
        """The leaves that a step reaches on some process, in the same order on each.

        Args:
            terms: The losses of the step.

        Raises:
            SharingError: If the processes cannot tell each other which leaves they mean.
            TypeError: If the model is in `FullyShardedDataParallel`.
        """
        if self.processes.count == 1:
            return ()
        found = shared.of_model(terms.tensors)
        refuse_flat(found)
        common = self._common.reached(dict.fromkeys(found, 1), 1)
        if common is None:
            raise SharingError(NOT_ALIKE)
        return tuple(common)

    def unhooked(self, terms: Terms) -> tuple[Tensor, ...]:
        """The leaves that a backward pass leaves unaveraged; to be called before it.

        The processes ask each other only if some of them has such leaves. Who has none in the first
        step is taken to have none later, unless they turn up.
        """
        if self.processes.count == 1:
            return ()
        self.sharded.refuse_uneven(terms, self.processes)
        plain = bool(self._without_hook(shared.of_model(terms.tensors)))
        if self._plain is None:
            self._plain = bool(self.processes.maximum(torch.tensor(int(plain))))
        self._plain = self._plain or plain
        if not self._plain:
            return ()
        return self._without_hook(self.leaves(terms))

    def _without_hook(self, leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The leaves of which no wrapper reduces what their `.grad` receives."""
        hooked = self.sharded.shards().keys() | self.replicated.hooked(leaves)
        return tuple(leaf for leaf in leaves if not (leaf in hooked or is_flat(leaf)))

    def apply(self, leaves: Sequence[Tensor]) -> None:
        """Averages what the backward pass left in ``.grad``."""
        for leaf in leaves:
            if leaf.grad is None:
                leaf.grad = torch.zeros_like(leaf)
        self.processes.average([leaf.grad for leaf in leaves if leaf.grad is not None])
