"""`.grad` averaged over the processes, where no wrapper does it.

Gradients of a data-parallel run are means over the processes, a loss that one process lacks
counting as zero there: so `DistributedDataParallel` averages. What is measured is averaged alike.
``torch.autograd.grad`` and rows written straight to ``.grad`` do not fire its hooks; an ordinary
backward pass does.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from equipoise.autograd import shared
from equipoise.autograd.graph import SharingError
from equipoise.parallel.fsdp import Sharding
from equipoise.parallel.processes import Processes

if TYPE_CHECKING:
    from equipoise.losses import Terms


class GradientAverage:
    """Averages ``.grad`` after an ordinary backward pass, where no wrapper does it.

    The hooks of `DistributedDataParallel` cannot be seen on a parameter, so the wrappers that are
    alive are looked up once.

    Args:
        processes: Those of the run.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self._leaves: dict[Tensor, None] = {}
        self._settled = False
        self._hooked: bool | None = None
        self.sharding = Sharding()

    def __deepcopy__(self, memo: dict[int, object]) -> GradientAverage:
        """A copy starts afresh: what is kept belongs to one model."""
        return GradientAverage(self.processes)

    def __getstate__(self) -> dict[str, object]:
        """As for copies."""
        return {**self.__dict__, "_leaves": {}, "_settled": False, "_hooked": None}

    def leaves(self, terms: Terms) -> tuple[Tensor, ...]:
        """The leaves of a step, the same on every process; it reads the graph.

        Args:
            terms: The losses of the step.

        Raises:
            SharingError: If the processes would average different leaves.
        """
        if self.processes.count == 1:
            return ()
        if self._settled and (terms.given is None or not terms.complete):
            return tuple(self._leaves)
        found = shared.parameters(terms.tensors).everything
        if terms.complete and terms.given is not None:
            self._leaves, self._settled = dict.fromkeys(found), True
        elif not self._settled:
            self._leaves.update(dict.fromkeys(found))
            self._check_alike(tuple(self._leaves))
        return tuple(self._leaves)

    def unhooked(self, terms: Terms) -> tuple[Tensor, ...]:
        """The leaves that an ordinary backward pass leaves unaveraged; to be called before it."""
        if self.processes.count == 1:
            return ()
        if self._hooked is None:
            leaf = shared.parameters([terms.tensors[0]]).everything[0]
            self._hooked = leaf in self.sharding.shards() or any(
                parameter is leaf for parameter in _wrapped()
            )
        self.sharding.refuse_uneven(terms, self.processes)
        return () if self._hooked else self.leaves(terms)

    def _check_alike(self, leaves: Sequence[Tensor]) -> None:
        if not self.processes.alike((len(leaves), sum(leaf.numel() for leaf in leaves))):
            msg = (
                "The processes reach different parameters before a step had every loss on all of "
                "them, so gradients cannot be averaged. Begin with all losses everywhere, or wrap "
                "the model in DistributedDataParallel."
            )
            raise SharingError(msg)

    def apply(self, leaves: Sequence[Tensor]) -> None:
        """Averages what the backward pass left in ``.grad``."""
        for leaf in leaves:
            if leaf.grad is None:
                leaf.grad = torch.zeros_like(leaf)
        self.processes.average([leaf.grad for leaf in leaves if leaf.grad is not None])


def _wrapped() -> Iterator[Tensor]:
    """The parameters of all models in `DistributedDataParallel`."""
    for thing in gc.get_objects():
        if issubclass(type(thing), DistributedDataParallel):
            yield from thing.parameters()
