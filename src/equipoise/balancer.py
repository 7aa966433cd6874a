"""`Balancer`: the whole contract, and the one template of a step that all methods follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from equipoise.autograd.errors import explained, newest
from equipoise.autograd.precision import full_precision
from equipoise.autograd.targets import Wrt
from equipoise.finite import all_finite
from equipoise.gradients.apply import BackwardPass
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.update import Update
from equipoise.learner import Learner, Step
from equipoise.losses import Losses, Terms
from equipoise.parallel.zero import BackwardCall
from equipoise.parts.random import Drawing
from equipoise.record import Record
from equipoise.state import Stateful

LooksAt: TypeAlias = Literal["losses", "norms", "gramian", "gradients"]
"""What a method asks for, in the order of its price."""
PerLoss: TypeAlias = Mapping[str, float] | Sequence[float] | Tensor
"""One number per loss."""

_BOOKKEEPING = {"priorities", "resting", "weight_sum", "weight_count", "weight_marks", "skipped"}


@dataclass(frozen=True)
class Outcome:
    """What a method makes of a step.

    Attributes:
        weights: ``[len(present)]``, what each loss's gradient is multiplied with.
        updates: What is to be added to ``.grad``.
        gradients: What was measured, if anything was.
    """

    weights: Tensor
    updates: Sequence[Update]
    gradients: Gradients | None = None


Decide: TypeAlias = Callable[[Step, Gradients | None], Tensor]
"""Makes the weights of a step, ``[len(present)]``, from what was measured."""


class Balancer(Learner, ABC):
    """A method with its state.

    Args:
        losses: How many losses there are, or their unique names.
        priorities: Multiplies the losses before the method sees them; default ones. A method that
            looks past the scale of losses looks past these, too, and says so. A name left out
            of a mapping gets one. A schedule may stand in place of a number: a callable that takes
            the number of learned steps, such as `Ramp`. While it gives zero, the loss is absent.
        every: Recomputes the weights at each ``every``-th step and reuses them in between.
        nonfinite: A NaN or infinite loss never reaches the state. ``"skip"`` lets the gradient show
            it as PyTorch's would; ``"raise"`` makes it a ``ValueError`` that names the loss.
        graphless: A loss that is a number or has no graph in this step, such as the zero of a batch
            without boxes: ``"absent"`` counts it as absent, with its value on record, and warns
            once; ``"raise"`` makes it an error that names the loss.
        scale: ``"first_value"`` divides each loss by the magnitude of its first value before the
            method sees it, ``("first_value", k)`` by the mean of its first ``k``; a loss that comes
            later starts later. Gradients and weights follow, as if the losses had been passed so.
        process_group: The processes over which values and gradients are averaged in data-parallel
            training; ``None`` is the default group, if ``torch.distributed`` is on.

    Raises:
        TypeError: If a name is not a string.
        ValueError: If a name comes twice, or an option is out of range.

    Attributes:
        names: The names of the ``T`` losses.
        last: The record of the last step, ``None`` before the first.
        looks_at: What the method asks for, which fixes what a step costs.
        weighting: Whether the result is a weighting of the losses, one number each.
        defined_for: The losses for which the method means something. Of others it warns once, where
            their values lie on the CPU.
        heads: Whether parameters that one loss has for itself receive its weighted gradient, or its
            plain one.
    """

    looks_at: LooksAt = "losses"
    heads: Literal["weighted", "plain"] = "weighted"

    # What a user calls.

    @full_precision()
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
            wrt: Where gradients are watched in this step; ``None`` is as constructed. Methods that
                look at no gradient take it, too, so that methods can be exchanged.
            retain_graph: Whether the graph outlives the call.
            scaler: A ``torch.amp.GradScaler``, in place of ``scaler.scale(loss).backward()``.
            backward: A callable such as ``accelerator.backward``, called once on the balanced loss.

        Returns:
            The record of the step.

        Raises:
            TypeError: If a loss is not a floating-point tensor.
            ValueError: If a loss is unknown, not a scalar or has no graph, the count is wrong, or
                the losses share nothing.
        """
        how = BackwardPass(self._average, retain_graph, scaler, backward)
        step = self._begin(losses)
        _refuse_graphless(step.terms)
        with explained(step.terms, self._newest):
            self._opens(step.terms)
            with self._average.replicated.measuring():
                outcome = self._advance(step, how, wrt)
            how.run(outcome.updates, step.terms)
        self._newest = newest(step.terms)
        return self._closes()

    if TYPE_CHECKING:

        def __call__(self, losses: Losses) -> Tensor:
            """What `forward` returns; for `nn.Module` it could be anything."""

    def forward(self, losses: Losses) -> Tensor:
        """The balanced loss, a scalar to call ``.backward()`` on.

        Args:
            losses: The losses of this step.

        Returns:
            ``sum_i w_i L_i``, with constant weights. One scalar can give heads weighted gradients
            only: for ``heads="plain"`` call `backward`.

        Raises:
            TypeError: If the method is no weighting of the losses.
        """
        if not self.weighting:
            msg = (
                f"{self._method()} changes gradients, not the weights of losses, so it has no "
                "balanced loss; call `backward(losses)` instead."
            )
            raise TypeError(msg)
        with full_precision(), self._average.replicated.measuring():
            step = self._begin(losses)
            with explained(step.terms, self._newest):
                self._opens(step.terms)
                weights = self._advance_weights(step)
            self._newest = newest(step.terms)
            self._closes()
        return step.terms.balanced(weights)

    @full_precision()
    def weigh(self, values: Tensor, gradients: Gradients | None = None) -> Tensor:
        """The method's own arithmetic on detached values; advances the state.

        Args:
            values: ``[T]`` loss values, already multiplied by any priorities.
            gradients: Their gradients; only for methods that look at them.

        Returns:
            ``[T]`` weights.

        Raises:
            TypeError: If the method is no weighting of the losses, or needs ``gradients``.
        """
        if not self.weighting:
            msg = f"{self._method()} is no weighting of the losses; call `combine` instead."
            raise TypeError(msg)
        values = self.follow(values.detach())
        if not self._safe(gradients):
            return self.resting.clone()
        weights = self._guarded(
            values, lambda: self._formula(values, gradients), lambda: self.resting, gradients
        )
        self.resting.copy_(weights)
        return weights

    @full_precision()
    def combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The combined gradient; advances the state.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[P]``.
        """
        if self.weighting:
            return gradients.combine(self.weigh(values, gradients))
        values = self.follow(values.detach())

        def plain() -> Tensor:
            return gradients.combine(torch.ones_like(values))

        if not self._safe(gradients):
            return plain()
        return self._guarded(values, lambda: self._combine(values, gradients), plain, gradients)

    @property
    def random(self) -> bool:
        """Whether the method draws random numbers."""
        return any(isinstance(module, Drawing) for module in self.modules())

    @property
    def stateful(self) -> bool:
        """Whether a step depends on earlier ones, or on what was observed."""
        return any(
            not declared.given and name not in _BOOKKEEPING
            for module in self.modules()
            if isinstance(module, Stateful)
            for name, declared in module.declared.items()
        )

    # What a kind of balancer supplies.

    @abstractmethod
    def _formula(self, values: Tensor, gradients: Gradients | None) -> Tensor:
        """``[T]`` weights; reads and advances declared state."""

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The ``[P]`` combined gradient, where the method is no weighting."""
        raise NotImplementedError

    @abstractmethod
    def _weights(
        self, step: Step, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> tuple[Tensor, Gradients | None]:
        """Measures what the method looks at, keeping the graph, and decides.

        Args:
            step: The step.
            wrt: Where gradients are watched; ``None`` is as constructed.
            decide: Makes the weights in place of `_decide`.

        Returns:
            ``[len(present)]`` weights, and what was measured.
        """

    @abstractmethod
    def _step(
        self, step: Step, how: BackwardPass, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> Outcome:
        """Measures, decides, and says what is to be added to ``.grad``.

        Args:
            step: The step.
            how: How it goes backward.
            wrt: As for `_weights`.
            decide: As for `_weights`.
        """

    def _decide(self, step: Step, gradients: Gradients | None) -> Tensor:
        """The weights to apply, ``[len(present)]``: fresh ones where the step is due."""
        values = self.follow(step.terms.values())
        measured = gradients is not None or self.looks_at == "losses"
        with self.among(step.terms.present):
            if not (step.due and measured):
                return self.resting * self.factors
            scaled = None if gradients is None else gradients.scaled(self.factors)
            return self.weigh(self._as_seen(values), scaled) * self.factors

    def _given(self, gradients: Gradients | None) -> Gradients:
        """The gradients, where the method cannot do without."""
        if gradients is None:
            msg = f"{type(self).__name__} looks at gradients; call `weigh(values, gradients)`."
            raise TypeError(msg)
        return gradients

    def _safe(self, gradients: Gradients | None) -> bool:
        """State as wide as a gradient is too large to copy and take back: look before."""
        if gradients is None or not self.keeps_wide_state():
            return True
        self._kept = bool(all_finite(gradients.norms()))
        return self._kept

    def _advance(self, step: Step, how: BackwardPass, wrt: Wrt | None) -> Outcome:
        """The outcome of a step, put on record."""
        outcome = self._step(step, how, wrt)
        self._note(step.terms, outcome.weights, outcome.gradients)
        return outcome

    def _advance_weights(self, step: Step) -> Tensor:
        """The weights of a step, put on record."""
        weights, gradients = self._weights(step)
        self._note(step.terms, weights, gradients)
        return weights


def _refuse_graphless(terms: Terms) -> None:
    if not any(tensor.requires_grad for tensor in terms.tensors):
        msg = (
            f"None of the losses {', '.join(map(repr, terms.present_names))} has a graph to go "
            "backward through: they were computed under `torch.no_grad()`. To look at the balanced "
            "loss in an evaluation call `balancer(losses)`."
        )
        raise ValueError(msg)
