"""The gradients of the losses, one after the other, with what micro-batches have added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, distributed, nn
from torch.amp import GradScaler

from equipoise.autograd.compiled import KeptForPasses
from equipoise.autograd.graph import SharingError
from equipoise.autograd.shared import leaves_below
from equipoise.losses import Terms
from equipoise.optim.averaging import averaged, reach
from equipoise.optim.grad import Others
from equipoise.optim.sharded import PerParameter, gradients_of_shards
from equipoise.parallel.dtensor import is_dtensor
from equipoise.parallel.fsdp import ShardedModules, Shards
from equipoise.parallel.processes import Processes


class Passes:
    """The backward passes of one batch, each run when its gradients are asked for.

    Args:
        terms: The losses of the batch.
        parameters: Those of the optimizer.
        others: Takes the gradients of the leaves that the losses reach besides.
        sources: Where gradients come from.
        scaler: Scales the losses, if there is one.
        retain_graph: Whether the graph outlives the last pass.
    """

    def __init__(
        self,
        terms: Terms,
        parameters: list[Tensor],
        others: Others,
        sources: Sources,
        scaler: GradScaler | None,
        *,
        retain_graph: bool,
    ) -> None:
        self.terms = terms
        self.live = dict(zip(terms.present, terms.places, strict=True))
        self._parameters = parameters
        self._others = others
        self._sources = sources
        self._scaler = scaler
        self._retain_graph = retain_graph or sources.compiled(terms)
        self._last = terms.present[terms.here[-1]]
        self._read_graph()

    def _read_graph(self) -> None:
        """Finds what the losses reach: parameters of the optimizer, and leaves that are not."""
        leaves = leaves_below(self.terms.tensors)
        shards = self._sources.shards()
        own, holders = set(self._parameters), [shards.get(leaf, leaf) for leaf in leaves]
        self._reached = own.intersection(holders)
        self._beside = [holder for holder in holders if holder not in own]
        wanted = own.union(holders)
        self._shards = {leaf: shard for leaf, shard in shards.items() if shard in wanted}

    def reached_with(self, accumulated: dict[int, PerParameter]) -> set[Tensor]:
        """The parameters that some loss of the step reaches here, in this or an earlier batch.

        Args:
            accumulated: The gradients of earlier micro-batches.
        """
        return self._reached | _marked(self._parameters, accumulated.values())

    def step(
        self, accumulated: dict[int, PerParameter]
    ) -> tuple[set[Tensor], Iterator[tuple[int, PerParameter]]]:
        """What a step takes in, over all processes of the run.

        Args:
            accumulated: As `each` takes it.

        Returns:
            The parameters that some loss of the step reaches, and what `each` yields, averaged.
        """
        processes, parameters = self._sources.processes, self._parameters
        if processes.count == 1 and not self._shards:
            return self.reached_with(accumulated), self.each(accumulated)
        anywhere = reach(self.live, accumulated, parameters, processes, self._shards)
        means = averaged(self.each(accumulated), anywhere, parameters, processes)
        return _marked(parameters, anywhere.values()), means

    def each(self, accumulated: dict[int, PerParameter]) -> Iterator[tuple[int, PerParameter]]:
        """Computes the gradients of one loss when it is asked for them, and keeps none.

        Args:
            accumulated: Gradients of earlier micro-batches by the position of their loss; each is
                taken out as its turn comes.

        Yields:
            The position of a loss, ascending, and its gradients.
        """
        for i in sorted({*self.live, *accumulated}):
            gradients = accumulated.pop(i, None)
            if i in self.live:
                found = self._pass(i, self.live[i])
                gradients = found if gradients is None else _sums(gradients, found)
                del found
            if gradients is not None:
                yield i, gradients
            del gradients  # Only one is alive at a time.

    def _pass(self, i: int, loss: Tensor | None) -> PerParameter:
        if loss is None:  # only another process has it
            return [None] * len(self._parameters)
        loss = scaled(self._scaler, loss)
        targets = [*self._parameters, *self._beside]
        retain = self._retain_graph or i != self._last
        if self._shards:
            found = gradients_of_shards(loss, targets, self._shards, retain_graph=retain)
        else:
            found = self._sources.gradients(loss, targets, retain_graph=retain)
        count = len(self._parameters)
        self._others.add(i, self._beside, found[count:])
        return found[:count]

    def average_beside(self) -> None:
        """Averages what other leaves get over the processes of the run.

        What is no ``nn.Parameter`` is an input of this process's batch, which no wrapper averages,
        and FSDP has averaged its shards.
        """
        if self._sources.processes.count > 1:
            found = [
                leaf
                for leaf in (*self._beside, *self._others.leaves)
                if isinstance(leaf, nn.Parameter) and not is_dtensor(leaf)
            ]
            leaves = self._sources.agreed_beside(self.terms, found)
            self._others.average(leaves, self._sources.processes)

    def inverse_scale(self) -> Tensor | None:
        """One over the scale of the losses, a scalar on their device."""
        if self._scaler is None:
            return None
        one = torch.ones((), device=self.terms.tensors[0].device)
        return scaled(self._scaler, one).reciprocal()


def _sums(gradients: PerParameter, more: PerParameter) -> PerParameter:
    # Not in place: autograd may have given the same memory to several parameters.
    return [
        one if other is None else other if one is None else one + other
        for one, other in zip(gradients, more, strict=True)
    ]


def _marked(parameters: Sequence[Tensor], rows: Iterable[Sequence[object]]) -> set[Tensor]:
    """The parameters for which some row holds a gradient, or ``True``."""
    return {
        parameter
        for row in rows
        for parameter, mark in zip(parameters, row, strict=True)
        if mark is not None and mark is not False
    }


def scaled(scaler: GradScaler | None, loss: Tensor) -> Tensor:
    """The loss times the scale, if there is one."""
    if scaler is None:
        return loss
    with torch.enable_grad():
        product: Tensor = scaler.scale(loss)
    return product


class Sources:
    """Where gradients come from: what is known of the model and of other processes.

    Args:
        processes: Those of the run.
        gradients: Returns the gradients of a loss with respect to some leaves.
    """

    def __init__(self, processes: Processes, gradients: Callable[..., PerParameter]) -> None:
        self.processes = processes
        self.gradients = gradients
        self._sharded = ShardedModules()
        self._beside: dict[Tensor, None] = {}
        self._settled = False
        self._keeping = KeptForPasses()
        self._compiled: dict[tuple[int, ...], bool] = {}

    def compiled(self, terms: Terms) -> bool:
        """Whether the graph of some loss holds compiled functions; each set is looked at once."""
        if len(terms.names) > 1 and terms.present not in self._compiled:
            self._compiled[terms.present] = self._keeping.needed(terms.tensors)
        return self._compiled.get(terms.present, False)

    def shards(self) -> Shards:
        """The shard behind each leaf of a graph; empty where nothing can be sharded."""
        if not distributed.is_available() or not distributed.is_initialized():
            return {}
        return self._sharded.shards()

    def refuse_absent(self, terms: Terms) -> None:
        """Refuses a loss that some process lacks, if the model is sharded."""
        if not terms.everywhere:
            self._sharded.refuse_absent(terms)

    def agreed_beside(self, terms: Terms, found: Sequence[Tensor]) -> list[Tensor]:
        """The leaves beside the optimizer's parameters, the same on every process.

        Args:
            terms: The losses of the step, agreed upon.
            found: The leaves that they reach on this process.

        Raises:
            SharingError: If the processes would average different leaves.
        """
        if terms.complete:
            self._beside, self._settled = dict.fromkeys(found), True
        elif not self._settled:
            self._beside.update(dict.fromkeys(found))
            numbers = len(self._beside), sum(leaf.numel() for leaf in self._beside)
            if not self.processes.alike(numbers):
                msg = (
                    "The processes reach different parameters beside this optimizer's before a "
                    "step had every loss on all of them, so their gradients cannot be averaged. "
                    "Begin with all losses everywhere, or give the optimizer all parameters."
                )
                raise SharingError(msg)
        return list(self._beside)
