"""`Preference`: a part that goes on top of any balancer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import torch

from equipoise.aggregation.base import Aggregation
from equipoise.balancer import Balancer, LooksAt
from equipoise.record import spread
from equipoise.weighting.base import Weighting

if TYPE_CHECKING:
    from torch import Tensor
    from torch.amp.grad_scaler import GradScaler

    from equipoise.autograd.targets import Wrt
    from equipoise.gradients.apply import BackwardCall
    from equipoise.gradients.gradients import Gradients
    from equipoise.losses import Losses, Terms
    from equipoise.record import Record

Below: TypeAlias = "Weighting | Aggregation | Preference"
"""What a preference goes on top of."""


class Preference(Balancer):
    """What changes the result of another balancer, itself a balancer to stack further ones on.

    The balancer below stays whole: it reads the losses, measures where and as often as it was built
    to, and keeps its state, in which ``state_dict()`` includes it. What it has beyond the common
    calls, such as ``observe``, is reached through ``balancer``.

    Args:
        balancer: The method, or a preference on top of one.

    Raises:
        TypeError: If ``balancer`` is none.

    Attributes:
        balancer: The balancer below.
        adjusting: What measures and weighs on top of it.
    """

    balancer: Below
    adjusting: Aggregation

    def __init__(self, balancer: Below) -> None:
        if not isinstance(balancer, Weighting | Aggregation | Preference):
            msg = (
                f"A preference goes on top of a balancer; got {balancer!r}. "
                "Write, for example, Primary(Equal(['a', 'b']), 'a')."
            )
            raise TypeError(msg)
        super().__init__(
            balancer.names,
            nonfinite=balancer.nonfinite,
            process_group=balancer.processes.group,
        )
        self.balancer = balancer
        self.resting.copy_(balancer.resting * balancer.priorities)

    @property
    def looks_at(self) -> LooksAt:  # type: ignore[override]  # known only with the balancer below
        """What the balancer below asks for."""
        return self.balancer.looks_at

    @property
    def weighting(self) -> bool:  # type: ignore[override]
        """Whether the balancer below is a weighting of the losses."""
        return self.balancer.weighting

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Whether the balancer below draws random numbers."""
        return self.balancer.random

    @property
    def stateful(self) -> bool:  # type: ignore[override]
        """Whether a step of the balancer below depends on earlier ones."""
        return self.balancer.stateful

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Uses the weights as they are and learns nothing inside the ``with`` block."""
        with super().frozen(), self.balancer.frozen(), self.adjusting.frozen():
            yield

    @abstractmethod
    def weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The arithmetic of the balancer below and of the preference; advances the state.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[T]`` weights.

        Raises:
            TypeError: If the balancer below is no weighting of the losses.
        """

    @abstractmethod
    def combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The combined gradient; advances the state.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[P]``.
        """

    @abstractmethod
    def backward(
        self,
        losses: Losses,
        *,
        wrt: Wrt | None = None,
        retain_graph: bool = False,
        scaler: GradScaler | None = None,
        backward: BackwardCall | None = None,
    ) -> Record:
        """Balances the losses and accumulates into ``.grad``, as ``Tensor.backward`` does.

        Args:
            losses: The losses of this step.
            wrt: Where gradients are watched in this step.
            retain_graph: Whether the graph outlives the call.
            scaler: A ``torch.amp.GradScaler``, in place of ``scaler.scale(loss).backward()``.
            backward: A callable such as ``accelerator.backward``, called once on the balanced loss.

        Returns:
            The record of the step.
        """

    def _below(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The ``[T]`` weights of the balancer below."""
        if isinstance(self.balancer, Weighting):
            return self.balancer.weigh(values)
        return self.balancer.weigh(values, gradients)

    def _below_combined(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The ``[P]`` combined gradient of the balancer below."""
        if isinstance(self.balancer, Weighting):
            return gradients.combine(self.balancer.weigh(values))
        return self.balancer.combine(values, gradients)

    def _said(self) -> Record:
        """The record of the balancer below, which has just done its step."""
        record = self.balancer.last
        if record is None:
            msg = f"{type(self.balancer).__name__} left no record of its step."
            raise RuntimeError(msg)
        return record

    def _counted(self, terms: Terms) -> dict[str, Tensor]:
        """The live losses, without those that schedules of the balancer below left out."""
        present = self._said().present
        places = [terms.present[place] for place in terms.here]
        return {
            self.names[i]: loss
            for i, loss in zip(places, terms.tensors, strict=True)
            if i in present
        }

    def _conclude(self, terms: Terms, applied: Tensor, measured: Record) -> Record:
        """Leaves the record of the step.

        Args:
            terms: The losses of the step.
            applied: ``[T]`` weights, zero where absent.
            measured: Has the norms and cosines to show.
        """
        weights = applied.detach()
        if len(terms.present) < len(self.names):
            weights = weights[list(terms.present)]
        # What one process alone lacks, its balancer below may not know the weight of.
        alike = terms.everywhere or self.processes.count == 1
        with nullcontext() if alike else super().frozen():
            record = self._note(terms, weights)
            if self.learning:
                there = spread(torch.ones_like(weights), terms.present, len(self.names), 0.0) > 0
                self.resting = torch.where(there, applied.to(self.resting), self.resting)
        self.last = replace(record, norms=measured.norms, cosines=measured.cosines)
        return self.last
