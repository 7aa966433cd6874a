"""The same numbers on every process of a data-parallel run.

Gradients of a data-parallel run are means over the processes, a loss that one process lacks
counting as zero there: so `DistributedDataParallel` averages. What is measured is averaged alike.
``torch.autograd.grad`` and rows written straight to ``.grad`` do not fire its hooks; an ordinary
backward pass does.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from equipoise import sharing
from equipoise.graph import SharingError
from equipoise.sharding import Sharding

if TYPE_CHECKING:
    from equipoise.losses import Terms

_BUCKET = 25 * 2**20  # bytes; that of DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """The processes that train one model on parts of each batch; alone, nothing happens.

    Attributes:
        group: The process group; ``None`` is the default group, if there is one.
        alone: Takes this process for the only one whatever runs beside it.
    """

    group: distributed.ProcessGroup | None = None
    alone: bool = False

    def __deepcopy__(self, memo: dict[int, object]) -> Processes:
        """A copy trains with the same processes: a group is a connection and has no copy."""
        return self

    @property
    def count(self) -> int:
        """How many there are."""
        if self.alone or not distributed.is_available() or not distributed.is_initialized():
            return 1
        return distributed.get_world_size(self.group)

    def agree(self, terms: Terms) -> Terms:
        """The losses that some process has, with their values averaged over all of them.

        Communicates ``2 T`` numbers and reads them.

        Args:
            terms: What this process has.

        Returns:
            The same losses and values on every process.
        """
        if self.count == 1:
            return terms
        values = terms.values()
        packed = values.new_zeros(2, len(terms.names), dtype=torch.float64)
        packed[0, list(terms.present)] = values.double()
        packed[1, list(terms.present)] = 1.0
        self.sum([packed])
        anywhere = packed[1].tolist()
        present = tuple(i for i, processes in enumerate(anywhere) if processes)
        mean = packed[0, list(present)] / self.count
        return replace(
            terms,
            present=present,
            here=tuple(present.index(i) for i in terms.present),
            given=mean.to(values.dtype),
            everywhere=all(anywhere[i] == self.count for i in present),
        )

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Sums tensors over the processes, in place."""
        if self.count > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor, group=self.group)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Averages tensors over the processes, in place, several to a message."""
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            distributed.all_reduce(flat, group=self.group)
            flat /= self.count
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def share(self, tensor: Tensor) -> Tensor:
        """The first process's tensor, on every process.

        Args:
            tensor: Of the same shape and dtype everywhere, on the CPU.
        """
        if self.count == 1:
            return tensor
        shared = tensor.to(_device(self.group))
        first = distributed.get_global_rank(self.group, 0) if self.group is not None else 0
        distributed.broadcast(shared, first, group=self.group)
        return shared.to(tensor.device)

    def alike(self, numbers: Sequence[int]) -> bool:
        """Whether every process has the same numbers."""
        if self.count == 1:
            return True
        own = torch.tensor([[n, -n] for n in numbers], dtype=torch.float64)
        largest = own.to(_device(self.group))
        distributed.all_reduce(largest, op=distributed.ReduceOp.MAX, group=self.group)
        return bool((largest.sum(dim=1) == 0).all())


def _device(group: distributed.ProcessGroup | None) -> torch.device:
    backend = distributed.get_backend(group)
    return torch.device("cuda" if backend == distributed.Backend.NCCL else "cpu")


def _buckets(tensors: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    """Neighbours of one dtype, up to a bucket's size together."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        nbytes = tensor.numel() * tensor.element_size()
        if bucket and (size + nbytes > _BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += nbytes
    if bucket:
        yield bucket


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
        found = sharing.parameters(terms.tensors).everything
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
            leaf = sharing.parameters([terms.tensors[0]]).everything[0]
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
