"""`Probe`: norms and cosines of a step whose method looks at none, on its live graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.autograd.precision import full_precision
from equipoise.gradients.measuring import Measuring
from equipoise.gradients.meter import Meter
from equipoise.losses import read_losses
from equipoise.parallel.ddp import ReplicatedModules
from equipoise.parallel.processes import Processes
from equipoise.record import spread


@dataclass(frozen=True)
class Found:
    """What was measured of a step; reading synchronises.

    Attributes:
        norms: ``[T]``, of the losses' gradients over all that is shared; NaN where absent.
        cosines: ``[T, T]`` between them.
    """

    norms: Tensor
    cosines: Tensor


class Probe:
    """Measures before a step goes backward, and leaves no trace: the graph is kept.

    It takes ``T`` backward passes and room for ``T`` gradients, which it does not keep. On several
    processes all of them measure, and what they find is averaged as a method's own would be.

    Args:
        processes: Those of the training.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._replicated = ReplicatedModules()

    @full_precision()
    def measure(self, losses: Mapping[str, Tensor], names: tuple[str, ...]) -> Found | None:
        """Measures the gradients of a step's losses.

        Args:
            losses: The live losses that are there, by name.
            names: Those of all ``T``.

        Returns:
            What was found; ``None`` where one loss alone is there.

        Raises:
            SharingError: If the losses share nothing.
            RuntimeError: If a pass fails.
        """
        terms = self._processes.agree(read_losses(losses, names))
        meter = Meter(Measuring(), self._processes)
        with self._replicated.measuring():
            watched = meter.watch(terms, "shared")
            if watched is None:
                return None
            gradients = meter.run(terms, watched, retain_graph=True, applies=False).gradients
        present, count = terms.present, len(names)
        return Found(
            spread(gradients.norms().detach(), present, count, torch.nan),
            spread(gradients.cosines().detach(), present, count, torch.nan),
        )
