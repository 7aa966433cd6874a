"""The leaves of a step, the same on every process, though each knows only its own graph.

Which leaves a step reaches is read from its graph. Where the graphs differ, as a process lacks a
loss or took another way through the model, the processes tell each other; for this they need a
number for each leaf that means the same on all of them. Parameters in `DistributedDataParallel`
have one, others get theirs in steps in which all graphs are alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

import torch
from torch import Tensor

from equipoise.parallel.ddp import ReplicatedModules
from equipoise.parallel.processes import Processes

NOT_ALIKE = (
    "The processes reach different parameters before a step had every loss on all of them, so "
    "gradients cannot be averaged. Begin with all losses everywhere, or wrap the model in "
    "DistributedDataParallel."
)


class CommonLeaves:
    """Tells which losses reach which leaves on some process.

    Args:
        processes: Those of the run.
        replicated: The models in `DistributedDataParallel`.
    """

    def __init__(self, processes: Processes, replicated: ReplicatedModules) -> None:
        self.processes = processes
        self.replicated = replicated
        self._numbers: dict[Tensor, int] = {}

    def reached(self, mine: Mapping[Tensor, int], losses: int) -> Mapping[Tensor, int] | None:
        """The union over the processes, in the same order on each.

        Communicates four numbers, and one bit for each leaf and loss where graphs differ.

        Args:
            mine: Each leaf of this process's graph with the set of losses that reach it, as a bit
                mask.
            losses: How many losses some process has.

        Returns:
            The same for the graphs of all processes; ``None``, on each of them, where some leaf has
            no number yet.
        """
        described = repr([(tuple(leaf.shape), losses) for leaf, losses in mine.items()])
        if self.processes.alike((len(mine), crc32(described.encode()))):
            self._number(mine)
            return mine
        self._number(self.replicated.in_order())
        known = all(leaf in self._numbers for leaf in mine)
        if not self.processes.alike((known, len(self._numbers))) or not known:
            return None
        return self._united(mine, losses)

    def _number(self, leaves: Mapping[Tensor, int] | list[Tensor]) -> None:
        for leaf in leaves:
            self._numbers.setdefault(leaf, len(self._numbers))

    def _united(self, mine: Mapping[Tensor, int], losses: int) -> dict[Tensor, int]:
        bits = torch.zeros(len(self._numbers), losses, dtype=torch.uint8)
        for leaf, mask in mine.items():
            bits[self._numbers[leaf]] = torch.tensor([mask >> i & 1 for i in range(losses)])
        found = [sum(bit << i for i, bit in enumerate(row)) for row in self._of_some(bits)]
        return {leaf: found[i] for leaf, i in self._numbers.items() if found[i]}

    def _of_some(self, bits: Tensor) -> list[list[int]]:
        rows: list[list[int]] = self.processes.maximum(bits).tolist()
        return rows
