"""`Wrapper`: what goes on top of any balancer, and is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from equipoise.autograd.targets import Wrt
from equipoise.balancer import Balancer, Decide, Outcome
from equipoise.gradients.apply import BackwardPass
from equipoise.gradients.gradients import Gradients
from equipoise.learner import Step
from equipoise.losses import Losses, Terms
from equipoise.words import brief


class Wrapper(Balancer):
    """Changes what another balancer makes of a step; itself a balancer, for further ones on top.

    The balancer below begins the step, measures where and as often as it was built to, keeps its
    state, and says what to add to ``.grad``. A wrapper changes the weights on their way
    (`Reweighting`) or the update that comes out (`_step`). It adds its own arithmetic, and no
    second way of doing what the balancer below does. What that one has beyond the common calls,
    such as ``observe``, is reached through ``balancer``.

    Args:
        balancer: The balancer below.

    Raises:
        TypeError: If ``balancer`` is none.

    Attributes:
        balancer: The balancer below.
        binding: Whether it promises something of each step's update, which nothing on top may
            smooth or delay.
    """

    binding: ClassVar[bool] = False

    balancer: Balancer

    def __init__(self, balancer: Balancer) -> None:
        if not isinstance(balancer, Balancer):
            msg = (
                f"{type(self).__name__} goes on top of a balancer; got {brief(balancer)}. "
                "Write, for example, Primary(Equal(['a', 'b']), 'a')."
            )
            raise TypeError(msg)
        super().__init__(
            balancer.names,
            nonfinite=balancer.nonfinite,
            graphless=balancer.graphless,
            process_group=balancer.processes.group,
        )
        self.balancer = balancer
        self.looks_at = balancer.looks_at
        self.weighting = balancer.weighting
        self.heads = balancer.heads
        self.every = balancer.every
        self.state("resting", balancer.resting * balancer.factors)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Uses the weights as they are and learns nothing inside the ``with`` block."""
        with super().frozen(), self.balancer.frozen():
            yield

    def _begin(self, losses: Losses) -> Step:
        before = self.balancer.skipped.clone()
        step = self.balancer._begin(losses)
        if self.binding and step.terms.given is None:
            step = replace(step, terms=self.processes.agree(step.terms))
        self.follow(step.terms.values())
        self._calls += step.counts
        self.skipped += self.balancer.skipped - before.to(self.skipped)
        return step

    def _weights(
        self, step: Step, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> tuple[Tensor, Gradients | None]:
        return self.balancer._weights(step, wrt, decide)

    def _step(
        self, step: Step, how: BackwardPass, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> Outcome:
        return self.balancer._step(step, how, wrt, decide)

    def _formula(self, values: Tensor, gradients: Gradients | None) -> Tensor:
        return self.balancer.weigh(values, gradients)

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        return self.balancer.combine(values, gradients)

    @property
    def halted_by(self) -> tuple[str, ...]:
        """Those of the balancer below, which also tells of them."""
        return self.balancer.halted_by

    def _method(self) -> str:
        return self.balancer._method()

    def _note(self, terms: Terms, weights: Tensor, gradients: Gradients | None) -> None:
        """Puts the step on record; what was applied is what rests."""
        super()._note(terms, weights, gradients)
        # What one process alone lacks, the balancer below may not know the weight of.
        if self.learning and (terms.everywhere or self.processes.count == 1):
            with self.among(terms.present):
                self.resting = weights.detach().to(self.resting)

    def _convert(self, extra: dict[str, Any], state_dict: dict[str, Any], prefix: str) -> None:
        """Version 0.1 kept a second balancer, ``adjusting``, beside the one below."""
        beside = f"{prefix}adjusting."
        keys = [key for key in state_dict if key.startswith(beside)]
        kept = {key.removeprefix(beside): state_dict.pop(key) for key in keys}
        state_dict.update({f"{prefix}{name}": v for name, v in self._from_beside(kept).items()})

    def _from_beside(self, kept: dict[str, Any]) -> dict[str, Tensor]:
        """What this wrapper keeps itself today, from what version 0.1 kept in ``adjusting``."""
        return {}


class Reweighting(Wrapper):
    """A wrapper that changes the weights: it supplies `_formula`.

    Raises:
        TypeError: If the balancer below is no weighting of the losses, or promises something of
            each update that other weights would break.
    """

    def __init__(self, balancer: Balancer) -> None:
        super().__init__(balancer)
        if not balancer.weighting:
            msg = (
                f"{balancer._method()} is no weighting of the losses, so it has no weights for "
                f"{type(self).__name__} to change; pass another method, for example MGDA."
            )
            raise TypeError(msg)
        if isinstance(balancer, Wrapper) and balancer.binding:
            outer, inner = type(self).__name__, type(balancer).__name__
            msg = (
                f"{inner} promises something of each update, which {outer} on top of it would "
                f"break; put {inner} on top of {outer} instead."
            )
            raise TypeError(msg)
        self.state("resting", balancer.resting)

    def _weights(
        self, step: Step, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> tuple[Tensor, Gradients | None]:
        return super()._weights(step, wrt, decide or self._decide)

    def _step(
        self, step: Step, how: BackwardPass, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> Outcome:
        return super()._step(step, how, wrt, decide or self._decide)

    def _begin(self, losses: Losses) -> Step:
        step = super()._begin(losses)
        self.priorities.copy_(self.balancer.factors)
        return step

    def _note(self, terms: Terms, weights: Tensor, gradients: Gradients | None) -> None:
        """Puts the step on record; what rests is what the formula gave, before priorities."""
        Balancer._note(self, terms, weights, gradients)

    def _differs(self, name: str, saved: Tensor, exact: Tensor) -> bool:
        """Priorities are those of the balancer below."""
        return name != "priorities" and super()._differs(name, saved, exact)
