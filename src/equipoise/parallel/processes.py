"""The same numbers on every process of a data-parallel run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, distributed

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

    @property
    def first(self) -> bool:
        """Whether this is the first of them: the one that writes, where one must."""
        return self.count == 1 or distributed.get_rank(self.group) == 0

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

    def of_first(self, tensor: Tensor) -> Tensor:
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

    def maximum(self, tensor: Tensor) -> Tensor:
        """The largest of each number over the processes.

        Args:
            tensor: Of the same shape and dtype everywhere, on the CPU.
        """
        if self.count == 1:
            return tensor
        largest = tensor.to(_device(self.group))
        distributed.all_reduce(largest, op=distributed.ReduceOp.MAX, group=self.group)
        return largest.to(tensor.device)

    def alike(self, numbers: Sequence[int]) -> bool:
        """Whether every process has the same numbers."""
        largest = self.maximum(torch.tensor([[n, -n] for n in numbers], dtype=torch.float64))
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
