"""`Weighting`: a balancer that looks at loss values only."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from equipoise.autograd.errors import explained
from equipoise.balancer import Balancer
from equipoise.gradients.apply import BackwardCall, Descent

if TYPE_CHECKING:
    from torch import Tensor
    from torch.amp.grad_scaler import GradScaler

    from equipoise.autograd.targets import Wrt
    from equipoise.losses import Losses, Terms
    from equipoise.record import Record


class Weighting(Balancer):
    """A balancer that looks at loss values only: one backward pass a step, as for a plain sum.

    A method supplies `_weigh`.
    """

    @abstractmethod
    def _weigh(self, values: Tensor) -> Tensor:
        """The formula: ``[T]`` weights from ``[T]`` values; reads and advances declared state."""

    def weigh(self, values: Tensor) -> Tensor:
        """The method's own arithmetic on detached values; advances the state.

        Args:
            values: ``[T]`` loss values, already multiplied by any priorities.

        Returns:
            ``[T]`` weights.
        """
        values = self.follow(values.detach())
        weights = self._guarded(values, lambda: self._weigh(values), lambda: self.resting)
        self.resting.copy_(weights)
        return weights

    def _decide(self, terms: Terms, *, due: bool) -> Tensor:
        values = self.follow(terms.values())
        with self.among(terms.present):
            weights = self.weigh(values * self.priorities) if due else self.resting
            return weights * self.priorities

    def forward(self, losses: Losses) -> Tensor:
        """The balanced loss, a scalar to call ``.backward()`` on.

        Args:
            losses: The losses of this step.

        Returns:
            ``sum_i w_i L_i``, with constant weights.
        """
        terms, due = self._begin(losses)
        weights = self._decide(terms, due=due)
        self._note(terms, weights)
        return terms.balanced(weights)

    @explained()
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
            wrt: Accepted so that methods can be exchanged; this one looks at no gradient.
            retain_graph: Whether the graph outlives the call.
            scaler: A ``torch.amp.GradScaler``, in place of ``scaler.scale(loss).backward()``.
            backward: A callable such as ``accelerator.backward``, called once on the balanced loss.

        Returns:
            The record of the step.
        """
        del wrt
        descent = Descent(retain_graph, scaler, backward, self._average)
        terms, due = self._begin(losses)
        weights = self._decide(terms, due=due)
        descent.weighted(terms, weights)
        return self._note(terms, weights)
