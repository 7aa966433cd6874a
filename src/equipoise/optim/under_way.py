"""What a multi-term optimizer holds from ``backward`` until ``step``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from equipoise.optim.grad import Others

if TYPE_CHECKING:
    from torch import Tensor

    from equipoise.optim.sharded import PerParameter
    from equipoise.record import Record

StepT = TypeVar("StepT")


@dataclass
class UnderWay(Generic[StepT]):
    """The step under way, and the record of the last one.

    One object that is changed and never replaced: a framework's wrapper hands attributes of the
    optimizer on, but what a method of the optimizer, called on the wrapper, assigns stays there.

    Attributes:
        step: Waits to be applied.
        skipping: The next step has nothing to apply, and that is right.
        waiting: The next ``backward`` would lose what the last one found.
        accumulating: Inside ``accumulate``.
        accumulated: Gradients of earlier micro-batches, by loss.
        values: The losses of this step, micro-batches added up.
        constants: Losses of this step without a graph.
        others: Leaves that are reached but belong to others.
        noted: Makes the record of the last step.
        last: That record, once it was asked for.
    """

    step: StepT | None = None
    skipping: bool = False
    waiting: bool = False
    accumulating: bool = False
    accumulated: dict[int, PerParameter] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)
    constants: dict[int, Tensor] = field(default_factory=dict)
    others: Others = field(default_factory=Others)
    noted: Callable[[], Record] | None = None
    last: Record | None = None

    def forget(self) -> None:
        """Forgets the step under way; the record of the last one stays."""
        self.step, self.skipping, self.waiting = None, False, False
        self.accumulated, self.values, self.constants = {}, {}, {}
        self.others = Others()
