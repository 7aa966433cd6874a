"""Parameters of which each process holds a part: FSDP2, ``torch.distributed.fsdp.fully_shard``.

An optimizer holds shards, the graph of a step has whole leaves. The state lives in the memory that
a process has, and is shown as shards, so that a distributed checkpoint can cut it anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from torch import Tensor, distributed

from equipoise.autograd.shared import leaves_below
from equipoise.gradients.sharded import ShardedPasses
from equipoise.parallel.dtensor import cut_over, is_dtensor
from equipoise.parallel.fsdp import Shards

PerParameter: TypeAlias = list[Tensor | None]
"""One gradient for each parameter; ``None`` where a loss does not reach it."""


def refuse_tensor_parallel(leaves: Iterable[Tensor]) -> None:
    """Raises a ``ValueError`` if the graph itself computes with a part of a parameter."""
    for leaf in leaves:
        if is_dtensor(leaf):
            msg = (
                f"A parameter of shape {tuple(leaf.shape)} is a DTensor in the graph, as tensor "
                "parallelism makes it. Multi-term optimizers take parameters sharded by "
                "`fully_shard` alone; with tensor parallelism use a weighting such as `DWA`."
            )
            raise ValueError(msg)


def gradients_of_shards(
    loss: Tensor, parameters: Sequence[Tensor], shards: Shards, *, retain_graph: bool
) -> PerParameter:
    """What this process holds of the gradients of one loss, already averaged by FSDP.

    Args:
        loss: A live scalar.
        parameters: Those of the optimizer.
        shards: The shard behind each leaf of the graph, some of which are parameters.
        retain_graph: Whether the graph outlives the pass.

    Returns:
        One gradient for each parameter; ``None`` where the loss does not reach it.

    Raises:
        RuntimeError: If FSDP keeps the gradients from the shards.
    """
    leaves = {shard: leaf for leaf, shard in shards.items()}
    known = [p for p in parameters if p in leaves or not is_dtensor(p)]
    known.sort(key=is_dtensor, reverse=True)  # the passes look at the first for the layout
    targets = [leaves.get(p, p) for p in known]  # type: ignore[call-overload]
    row = ShardedPasses([loss], targets, retain_graph=retain_graph, shards=shards).row(0, last=True)
    if all(gradient is None for gradient in row) and not shards.keys().isdisjoint(
        leaves_below([loss])
    ):
        msg = (
            "`set_requires_gradient_sync(False)` keeps gradients from the shards. Leave it on, and "
            "wrap all micro-batches but the last in `with optimizer.accumulate():`."
        )
        raise RuntimeError(msg)
    found = dict(zip(known, row, strict=True))
    return [found.get(parameter) for parameter in parameters]


class NormPool:
    """Makes norms of parts into norms of wholes.

    Args:
        parameters: To which the norms belong, in their order, the same on every process.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._cuts: dict[distributed.ProcessGroup, list[int]] = {}
        for place, parameter in enumerate(parameters):
            for group in cut_over(parameter):
                self._cuts.setdefault(group, []).append(place)

    def whole(self, norms: Tensor) -> Tensor:
        """The root of the sum of the squares over the processes that hold different parts.

        Args:
            norms: ``[n]``, those of the parts that this process has.

        Returns:
            ``[n]``, the same on every process.
        """
        if not self._cuts:
            return norms
        squares = norms.double().square()  # a square in float32 overflows from 1.8e19 on
        for group, places in self._cuts.items():
            pooled = squares[places]
            distributed.all_reduce(pooled, group=group)
            squares[places] = pooled
        return squares.sqrt().to(norms.dtype)
