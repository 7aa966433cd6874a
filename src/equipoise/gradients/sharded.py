"""`ShardedPasses`: backward passes whose gradients arrive in shards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, distributed

from equipoise.autograd.graph import SharingError
from equipoise.autograd.targets import Target
from equipoise.gradients.passes import Passes
from equipoise.parallel.dtensor import cut_over, like, local
from equipoise.parallel.fsdp import ABSENT, Shards


@dataclass
class ShardedPasses(Passes):
    """Backward passes whose gradients arrive in shards: see `Passes`.

    Attributes:
        shards: The shard behind each leaf.
    """

    shards: Shards = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Inner products are pooled over the processes that hold different shards."""
        super().__post_init__()
        self._leaves = [target for target in self.targets if isinstance(target, Tensor)]
        self._cut_over = cut_over(self.shards[self._leaves[0]])
        if self._cut_over:
            self.pool = self._pooled

    def row(self, i: int, *, last: bool = False) -> list[Tensor | None]:
        """This process's part of the gradient of loss ``i``; ``.grad`` is left as it was."""
        loss = self.losses[i]
        if loss is None:
            msg = ABSENT.format("so its gradient cannot be measured")
            raise SharingError(msg)
        leaves = [*self._leaves, *(self.own[i] if self.own else ())]
        holders = [self.holder(leaf) for leaf in leaves]
        before = [holder.grad for holder in holders]
        _put(holders, [None] * len(holders))
        try:
            torch.autograd.backward(
                [loss],
                None if self.seed is None else [self.seed.to(loss.dtype)],
                retain_graph=self.retain_graph or not last,
                inputs=leaves,
            )
            found = [None if h.grad is None else local(h.grad) for h in holders]
        finally:
            _put(holders, before)
        self.own_gradients[i] = found[len(self.targets) :]
        return self._watched(found)

    def rows(self, start: int, stop: int, *, last: bool = False) -> list[list[Tensor | None]]:
        """One pass after the other: FSDP's hooks know no batched gradients."""
        return [self.row(i, last=last and i == stop - 1) for i in range(start, stop)]

    @cached_property
    def sizes(self) -> list[int]:
        """The number of elements that this process has of each target."""
        return [local(self.holder(leaf)).numel() for leaf in self._leaves]

    def shaped(self, target: Target, flat: Tensor) -> Tensor:
        """This process's part of a gradient, as a shard of the whole."""
        if isinstance(target, Tensor) and target in self.shards:
            return _as_shard(self.shards[target], flat)
        return super().shaped(target, flat)

    def holder(self, leaf: Tensor) -> Tensor:
        """The shard behind a leaf, or the leaf itself if it is not sharded."""
        return self.shards.get(leaf, leaf)

    def _pooled(self, products: Tensor) -> Tensor:
        pooled = products.clone()
        for group in self._cut_over:
            distributed.all_reduce(pooled, group=group)
        return pooled


def _put(holders: Iterable[Tensor], gradients: Iterable[Tensor | None]) -> None:
    for holder, gradient in zip(holders, gradients, strict=True):
        holder.grad = gradient


def _as_shard(shard: Tensor, flat: Tensor) -> Tensor:
    part = local(shard)
    return like(flat.view(part.shape).to(part.dtype), shard)
