"""`Weighting`: a balancer that looks at loss values only."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from equipoise.autograd.targets import Wrt
from equipoise.balancer import Balancer, Decide, Outcome
from equipoise.gradients.apply import BackwardPass
from equipoise.gradients.gradients import Gradients
from equipoise.learner import Step
from equipoise.losses import Terms
from equipoise.parts.notices import warn_of_zero


class Weighting(Balancer):
    """A balancer that looks at loss values only: one backward pass per step, as for a plain sum.

    A method supplies `_weigh`.
    """

    @abstractmethod
    def _weigh(self, values: Tensor) -> Tensor:
        """The formula: ``[T]`` weights from ``[T]`` values; reads and advances declared state."""

    def _speak_up(self, terms: Terms) -> None:
        super()._speak_up(terms)
        if self.halted_by and not self._told_of_zero:
            self._told_of_zero = warn_of_zero(
                self._method(),
                "Loss",
                self.halted_by,
                terms.present_names,
                terms.values().tolist(),
            )

    def _formula(self, values: Tensor, gradients: Gradients | None) -> Tensor:
        return self._weigh(values)

    def _weights(
        self, step: Step, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> tuple[Tensor, Gradients | None]:
        return (decide or self._decide)(step, None), None

    def _step(
        self, step: Step, how: BackwardPass, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> Outcome:
        weights, _ = self._weights(step, wrt, decide)
        return Outcome(weights, [how.weighted(step.terms, weights)])
