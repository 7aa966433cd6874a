"""`Balancer`: the whole contract, and the life of a step that all methods share."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

import torch
from torch import Tensor

from equipoise.autograd.errors import explained
from equipoise.autograd.precision import full_precision
from equipoise.gradients.apply import BackwardCall, BackwardPass
from equipoise.gradients.update import Update
from equipoise.losses import Graphless, Losses, LossNames, Terms, loss_names, read_losses
from equipoise.parallel.averaging import GradientAverage
from equipoise.parallel.processes import Processes
from equipoise.parts.checks import check_choice
from equipoise.parts.notices import IDLE_STEPS, warn_of_idleness, warn_of_sign
from equipoise.parts.random import Drawing
from equipoise.record import Record, spread
from equipoise.schedules import Priorities, Schedules
from equipoise.state import Stateful

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler
    from torch.distributed import ProcessGroup

    from equipoise.autograd.targets import Wrt
    from equipoise.gradients.gradients import Gradients

LooksAt: TypeAlias = Literal["losses", "norms", "gramian", "gradients"]
"""What a method asks for, in the order of its price."""
PerLoss: TypeAlias = Mapping[str, float] | Sequence[float] | Tensor
"""One number per loss."""

_BOOKKEEPING = {"priorities", "resting", "weight_sum", "weight_count", "skipped"}


class BalancerOptions(TypedDict, total=False):
    """What every balancer takes by keyword; see `Balancer`."""

    priorities: Priorities | None
    every: int
    nonfinite: Literal["skip", "raise"]
    graphless: Graphless
    process_group: ProcessGroup | None


@dataclass(frozen=True)
class Step:
    """A step that has begun.

    Attributes:
        terms: The losses that it has.
        due: Whether it recomputes the weights.
        counts: Whether it is one of the steps that are learned from.
    """

    terms: Terms
    due: bool
    counts: bool


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


Decide: TypeAlias = "Callable[[Step, Gradients | None], Tensor]"
"""Makes the weights of a step, ``[len(present)]``, from what was measured."""


class Balancer(Stateful, ABC):
    """A method with its state.

    Args:
        losses: How many losses there are, or their unique names.
        priorities: Multiplies the losses before the method sees them; default ones. A name left out
            of a mapping gets one. A schedule may stand in place of a number: a callable that takes
            the number of learned steps, such as `Ramp`. While it gives zero, the loss is absent.
        every: Recomputes the weights at each ``every``-th step and reuses them in between.
        nonfinite: A NaN or infinite loss never reaches the state. ``"skip"`` lets the gradient show
            it as PyTorch's would; ``"raise"`` makes it a ``ValueError`` that names the loss.
        graphless: A loss that is a number or has no graph in this step, such as the zero of a batch
            without boxes: ``"absent"`` counts it as absent, with its value on record, and warns
            once; ``"raise"`` makes it an error that names the loss.
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
    weighting: bool = True
    defined_for: Literal["all", "nonnegative"] = "all"
    heads: Literal["weighted", "plain"] = "weighted"

    _idle = 0  # steps in a row that were to be learned from, and were not

    priorities: Tensor
    resting: Tensor
    weight_sum: Tensor
    weight_count: Tensor
    skipped: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        priorities: Priorities | None = None,
        every: int = 1,
        nonfinite: Literal["skip", "raise"] = "skip",
        graphless: Graphless = "absent",
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(loss_names(losses))
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            msg = f"`every` is {every!r}; it is a number of steps, at least 1."
            raise ValueError(msg)
        check_choice("nonfinite", nonfinite, ("skip", "raise"))
        self.every = every
        check_choice("graphless", graphless, ("absent", "raise"))
        self.nonfinite = nonfinite
        self.graphless = graphless
        self._warned: set[str] = set()
        self.processes = Processes(process_group)
        self._average = GradientAverage(self.processes)
        self.last: Record | None = None
        self._frozen = False
        self._told_of_sign = False
        count = len(self.names)
        self.schedules = Schedules(priorities, self.names)
        self.option("priorities", self.schedules.first)
        self.state("resting", torch.ones(count))
        self.state("weight_sum", torch.zeros(count))
        self.state("weight_count", torch.zeros(count))
        self.state("skipped", torch.zeros(count, dtype=torch.long))

    # What a user calls.

    @explained()
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
        with self._average.replicated.measuring():
            outcome = self._advance(step, how, wrt)
        how.run(outcome.updates, step.terms)
        return self._said()

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
        with explained(), full_precision(), self._average.replicated.measuring():
            step = self._begin(losses)
            weights = self._advance_weights(step)
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

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Uses the weights as they are and learns nothing inside the ``with`` block.

        For gradient accumulation, L-BFGS closures and evaluation, as does ``balancer.eval()``.
        """
        before = self._frozen
        self._frozen = True
        try:
            yield
        finally:
            self._frozen = before

    @property
    def awake(self) -> bool:
        """Whether it is in training mode and not frozen."""
        return self.training and not self._frozen

    @property
    def learning(self) -> bool:
        """Whether steps advance the state; never under ``torch.no_grad()``."""
        return self.awake and torch.is_grad_enabled()

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

    @property
    def weights(self) -> dict[str, float]:
        """What each loss's gradient was multiplied with in the last step; zero where absent."""
        applied = self.resting * self.priorities if self.last is None else self.last.weights
        return dict(zip(self.names, applied.tolist(), strict=True))

    @property
    def mean_weights(self) -> dict[str, float]:
        """The mean of the applied weights since the start, for retraining with `Fixed`."""
        mean = self.weight_sum / self.weight_count.clamp(min=1)
        mean = torch.where(self.weight_count > 0, mean, self.resting * self.priorities)
        return dict(zip(self.names, mean.tolist(), strict=True))

    def report(self) -> dict[str, float]:
        """The last record as flat numbers: see `Record.report`.

        Raises:
            RuntimeError: If there was no step yet.
        """
        return self._said().report()

    def extra_repr(self) -> str:
        """The names of the losses."""
        return ", ".join(self.names)

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
                return self.resting * self.priorities
            scaled = None if gradients is None else gradients.scaled(self.priorities)
            return self.weigh(values * self.priorities, scaled) * self.priorities

    def _safe(self, gradients: Gradients | None) -> bool:
        """State as wide as a gradient is too large to copy and take back: look before."""
        if gradients is None or not self.keeps_wide_state():
            return True
        return bool(gradients.norms().isfinite().all())

    def _method(self) -> str:
        """What to call the method in messages."""
        return type(self).__name__

    # The life of a step.

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

    def _begin(self, losses: Losses) -> Step:
        """Reads the losses of a step; tells whether it recomputes the weights, and counts it.

        A step with a NaN or infinite loss does not count. Where the values lie on an accelerator
        that is left to `_guarded`, which needs no synchronisation.
        """
        terms = self._scheduled(self._read(losses))
        due = self.learning and self._calls % self.every == 0
        if due or not self.weighting:  # a formula runs, on numbers that are the same everywhere
            self._average.replicated.refuse_uneven()
            terms = self.processes.agree(terms)
            self._agree_on_draws()
        self.follow(terms.values())
        if self.nonfinite == "raise":
            _raise_if_not_finite(terms.values(), terms.present_names)
        agreed = terms.given is not None or self.processes.count == 1
        known = terms.values().device.type == "cpu" and agreed
        finite = terms.values().isfinite()
        self._idle += due
        if known and due:
            self._speak_up(terms)
        if self.learning and known and not bool(finite.all()):
            self.skipped += spread((~finite).long(), terms.present, len(self.names), 0)
            return Step(terms, due=False, counts=False)
        self._calls += self.learning
        return Step(terms, due, counts=self.learning)

    def _read(self, losses: Losses) -> Terms:
        terms = read_losses(losses, self.names, graphless=self.graphless)
        for i, _ in terms.constants:
            self._warn_once(
                f"Loss {self.names[i]!r} has no graph in this step (it is a number, was detached, "
                "or depends on no parameter), so it counts as absent. graphless='raise' makes this "
                "an error; None, or leaving it out of the mapping, says that it is meant."
            )
        return terms

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, stacklevel=2)

    def _speak_up(self, terms: Terms) -> None:
        """Warns of what would go wrong in silence; reads values, so on the CPU only."""
        if self.defined_for == "nonnegative" and not self._told_of_sign:
            values = terms.values().tolist()
            self._told_of_sign = warn_of_sign(self._method(), terms.present_names, values)
        if self._idle == IDLE_STEPS:
            values = terms.values().tolist()
            warn_of_idleness(self._method(), self.names, terms.present_names, values)

    def _scheduled(self, terms: Terms) -> Terms:
        """Gives the losses this step's priorities, or those of the last step that learned."""
        found = self.schedules.at(self._calls if self.learning else max(self._calls - 1, 0))
        if not found:
            return terms
        self.follow(terms.values())
        for i, priority in found.items():
            self.priorities[i] = priority
        counted = terms.without([i for i, priority in found.items() if priority == 0])
        if not counted.present:
            msg = (
                f"The schedules give zero to all losses that are there, "
                f"{', '.join(map(repr, terms.present_names))}; let one of them count in each step."
            )
            raise ValueError(msg)
        return counted

    def _agree_on_draws(self) -> None:
        if self.processes.count > 1:
            for module in self.modules():
                if isinstance(module, Drawing):
                    module.agree(self.processes)

    def _guarded(
        self,
        values: Tensor,
        formula: Callable[[], Tensor],
        fallback: Callable[[], Tensor],
        gradients: Gradients | None = None,
    ) -> Tensor:
        """Runs a formula; what is not finite, in or out, leaves no trace in the state.

        Then the fallback takes the place of what it returned.
        """
        before = {name: buffer.clone() for name, buffer in self.small_state().items()}
        result = formula().detach()
        after = self.small_state()
        # A finite loss may have a square that is not, and state that is infinite never recovers.
        kept = values.isfinite().all() & _all_finite(result) & _without_infinity(after)
        measured = None if gradients is None else gradients.finite()
        kept = kept if measured is None else kept & measured
        if kept.device.type != "cpu" or bool(kept):
            self._idle = 0
        if kept.device.type == "cpu" and bool(kept):
            return result
        for name, buffer in after.items():
            if before[name].shape == buffer.shape:
                buffer.copy_(torch.where(kept, buffer, before[name]))
        self.skipped += (~kept).long()
        return torch.where(kept, result, fallback())

    def _note(self, terms: Terms, weights: Tensor, gradients: Gradients | None) -> None:
        """Leaves the record of this step, and counts its weights into their mean."""
        count, present = len(self.names), terms.present
        values = terms.values()
        norms, cosines = (None, None) if gradients is None else gradients.known()
        seen, total = spread(values, present, count, torch.nan), values.sum()
        for i, value in terms.constants:
            if i not in present:  # another process may have its graph
                seen[i] = value
                total = total + value.to(total)
        self.last = Record(
            names=self.names,
            present=present,
            losses=seen,
            weights=spread(weights, present, count, 0.0),
            total=total,
            norms=None if norms is None else spread(norms, present, count, torch.nan),
            cosines=None if cosines is None else spread(cosines, present, count, torch.nan),
            apart=()
            if gradients is None
            else tuple(terms.present_names[i] for i in gradients.apart),
        )
        if self.learning and (terms.given is not None or self.processes.count == 1):
            counted = values.isfinite().all().to(weights.dtype).expand(len(present))
            counted = spread(counted, present, count, 0.0)
            self.weight_sum += torch.where(counted > 0, self.last.weights, 0.0)
            self.weight_count += counted

    def _said(self) -> Record:
        """The record of the last step.

        Raises:
            RuntimeError: If there was none.
        """
        if self.last is None:
            msg = "There was no step yet; call `backward(losses)` first."
            raise RuntimeError(msg)
        return self.last

    def _differs(self, name: str, saved: Tensor, exact: Tensor) -> bool:
        """A scheduled priority is what its schedule says, whatever it was."""
        if name == "priorities":
            saved, exact = saved.clone(), exact.clone()
            for i in self.schedules.at(0):
                saved[i] = exact[i] = 0
        return super()._differs(name, saved, exact)


def _without_infinity(state: Mapping[str, Tensor]) -> Tensor:
    """Whether no state is infinite, a boolean scalar; NaN marks what was not met yet."""
    floating = [buffer.reshape(-1) for buffer in state.values() if buffer.is_floating_point()]
    return ~torch.cat(floating).isinf().any()


def _all_finite(tensor: Tensor) -> Tensor:
    """Whether all is finite, a boolean scalar, without a copy of what is as wide as a gradient."""
    if tensor.numel() == 0:  # a process that has no column of what is sharded
        return torch.ones((), dtype=torch.bool, device=tensor.device)
    lowest, highest = tensor.aminmax()
    return lowest.isfinite() & highest.isfinite()


def _refuse_graphless(terms: Terms) -> None:
    if not any(tensor.requires_grad for tensor in terms.tensors):
        msg = (
            f"None of the losses {', '.join(map(repr, terms.present_names))} has a graph to go "
            "backward through: they were computed under `torch.no_grad()`. To look at the balanced "
            "loss in an evaluation call `balancer(losses)`."
        )
        raise ValueError(msg)


def _raise_if_not_finite(values: Tensor, names: tuple[str, ...]) -> None:
    for name, value in zip(names, values.tolist(), strict=True):
        if not abs(value) < float("inf"):
            msg = (
                f"Loss {name!r} is {value}. Nothing was learned from this step; "
                "nonfinite='skip' goes on without stopping."
            )
            raise ValueError(msg)
