"""A step on one of the benchmark's models, as the timing engine takes it."""

from __future__ import annotations

from collections.abc import Callable

from equipoise.benchmarks.bench.cases import Build
from equipoise.benchmarks.bench.models import PricedModel
from equipoise.benchmarks.timing import Contender


class ModelContender(Contender):
    """Takes steps of a case: forward, backward, and whatever the case does besides.

    Args:
        model: What it runs on, nobody else's.
        build: Prepares what follows the forward pass.
        period: After how many steps its work repeats.
    """

    def __init__(self, model: PricedModel, build: Build, period: int = 1) -> None:
        super().__init__(model.inputs.device, period)
        self.model = model
        self.backward = build(model)

    def prepare(self, count: int) -> Callable[[], object]:
        """The batch is always the same, so that there is nothing to get ready."""
        return lambda: self._run(count)

    def _run(self, count: int) -> None:
        for _ in range(count):
            self.model.zero_grad()
            self.backward(self.model())
