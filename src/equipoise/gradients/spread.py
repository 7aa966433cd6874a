"""`SpreadPasses`: backward passes to a representation that lies spread over the processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from equipoise.autograd.samples import same_everywhere
from equipoise.autograd.targets import Target
from equipoise.gradients.passes import Passes
from equipoise.parallel.processes import Processes


@dataclass
class SpreadPasses(Passes):
    """Backward passes to a representation that lies spread over the processes: see `Passes`.

    Each process has the samples of its own part of the batch. The loss of the whole batch is the
    mean over processes, so the gradient at each part is that of the process's own loss divided by
    their number, and inner products of the parts add up. What is the same on every process, such as
    the weight of a skip connection, has the mean gradient instead. The pool then counts it once for
    each process, divided by their number squared: it is multiplied by the root of their number.

    Attributes:
        processes: Those of the run.
    """

    processes: Processes = field(default_factory=Processes)

    def __post_init__(self) -> None:
        """Tells stacks of samples from what is the same everywhere."""
        super().__post_init__()
        pairs = zip(self.targets, same_everywhere(self.targets), strict=True)
        self._same = {target for target, same in pairs if same}
        self._root = math.sqrt(self.processes.count)
        self.pool = self._pooled

    def rows(self, start: int, stop: int, *, last: bool = False) -> list[list[Tensor | None]]:
        """As ever; one pass after the other where gradients are averaged on the way."""
        if not self._same:
            return super().rows(start, stop, last=last)
        return [self.row(i, last=last and i == stop - 1) for i in range(start, stop)]

    def shaped(self, target: Target, flat: Tensor) -> Tensor:
        """As ever; without the factor that the pool needs."""
        return super().shaped(target, flat / self._root if target in self._same else flat)

    def _watched(self, found: Sequence[Tensor | None]) -> list[Tensor | None]:
        watched = super()._watched(found)
        for place, target in enumerate(self.targets):
            if target in self._same:
                watched[place] = self._mean(target, watched[place])
        return watched

    def _mean(self, target: Target, gradient: Tensor | None) -> Tensor:
        empty = torch.zeros(self.sizes[self.targets.index(target)], device=self.like.device)
        mean = super().shaped(target, empty) if gradient is None else gradient.clone()
        self.processes.average([mean])
        return mean * self._root

    def _pooled(self, products: Tensor) -> Tensor:
        pooled = products / self.processes.count**2
        self.processes.sum([pooled])
        return pooled
