"""`Learner`: what every balancer keeps from step to step, and how a step begins and ends."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.utils.hooks import RemovableHandle

from equipoise.finite import all_finite, none_infinite
from equipoise.gradients.gradients import Gradients
from equipoise.losses import Graphless, Losses, LossNames, Terms, loss_names, read_losses
from equipoise.parallel.averaging import GradientAverage
from equipoise.parallel.processes import Processes
from equipoise.parts.checks import check_choice
from equipoise.parts.hooks import Hook, RecordHooks
from equipoise.parts.notices import (
    IDLE_STEPS,
    tell_graphless,
    warn_of_idleness,
    warn_of_sign,
)
from equipoise.parts.random import Drawing
from equipoise.parts.scaling import Scale, read_scale
from equipoise.parts.told import remembers, shown_options
from equipoise.parts.weight_marks import MARKS, set_mark, sums_at
from equipoise.record import Record, spread
from equipoise.schedules import Priorities, Schedules
from equipoise.state import Stateful, decoded


class BalancerOptions(TypedDict, total=False):
    """What every balancer takes by keyword; see `Balancer`."""

    priorities: Priorities | None
    every: int
    nonfinite: Literal["skip", "raise"]
    graphless: Graphless
    scale: Scale | None
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


class Learner(Stateful):
    """Learns from steps: reads their losses, guards the state, leaves a record.

    Args:
        losses: See `Balancer`, as for all of them.
        priorities: See `Balancer`.
        every: See `Balancer`.
        nonfinite: See `Balancer`.
        graphless: See `Balancer`.
        scale: See `Balancer`.
        process_group: See `Balancer`.

    Attributes:
        last: The record of the last step, ``None`` before the first.
        weighting: Whether the result is a weighting of the losses, one number each.
        defined_for: The losses for which the method means something. Of others it warns once, where
            their values lie on the CPU.
    """

    weighting: bool = True
    defined_for: Literal["all", "nonnegative"] = "all"

    priorities: Tensor
    resting: Tensor
    weight_sum: Tensor
    weight_count: Tensor
    weight_marks: Tensor
    skipped: Tensor

    def __init_subclass__(cls, **options: object) -> None:
        """Each method's constructor remembers its options, also that of a user's own."""
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = remembers(vars(cls)["__init__"])  # type: ignore[method-assign]

    @remembers
    def __init__(
        self,
        losses: LossNames,
        *,
        priorities: Priorities | None = None,
        every: int = 1,
        nonfinite: Literal["skip", "raise"] = "skip",
        graphless: Graphless = "absent",
        scale: Scale | None = None,
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
        self._record_hooks = RecordHooks()
        self._record_pre_hooks = RecordHooks()
        self._frozen = False
        self._told_of_sign = self._told_of_zero = False
        self._newest = 0  # see `newest`, of the last step
        self._kept: bool | Tensor = True  # whether this step's formula left a trace in the state
        self._idle = 0  # steps in a row that were to be learned from, and were not
        count = len(self.names)
        self.schedules = Schedules(priorities, self.names)
        self.option("priorities", self.schedules.first)
        self.scaling = read_scale(scale, self.names)
        self.state("resting", torch.ones(count))
        self.state("weight_sum", torch.zeros(count), tally=True)
        self.state("weight_count", torch.zeros(count), tally=True)
        marks = torch.zeros(MARKS, 2, count)
        self.state("weight_marks", marks, axes=0, tally=True)  # one clock for all losses
        self.state("skipped", torch.zeros(count, dtype=torch.long))

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

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Hands the weights over to an optimizer that compares values of one objective.

        For L-BFGS after Adam: what it knows of curvature, and its line search, hold for the weights
        of this block only. Make the optimizer inside it, and a new one for each block; what was
        learned in between belongs to another objective.

        Raises:
            TypeError: If the method is no weighting of the losses, so that there is no objective.
            ValueError: If a weight is negative: minimising would raise that loss without bound.
        """
        if not self.weighting:
            msg = (
                f"{self._method()} changes gradients, not the weights of losses: there is no value "
                "that they are the gradient of, as a line search needs."
            )
            raise TypeError(msg)
        weights = zip(self.names, (self.resting * self.factors).tolist(), strict=True)
        negative = {name: weight for name, weight in weights if weight < 0}
        if negative:
            told = ", ".join(f"{name!r} ({weight:.3g})" for name, weight in negative.items())
            msg = (
                f"The weights of {told} are negative, so the balanced loss has no minimum to find. "
                "Go on with a first-order optimizer, or take a method whose weights stay "
                "positive, such as InverseGradientNorm."
            )
            raise ValueError(msg)
        with self.frozen():
            yield

    @property
    def awake(self) -> bool:
        """Whether it is in training mode and not frozen."""
        return self.training and not self._frozen

    @property
    def learning(self) -> bool:
        """Whether steps advance the state; never under ``torch.no_grad()``."""
        return self.awake and torch.is_grad_enabled()

    @property
    def halted_by(self) -> tuple[str, ...]:
        """The losses that, as long as one is exactly zero, leave no weight to the others.

        Of a method that looks at gradients: as long as the gradient of one is. The method warns
        once of one that is, on the CPU.
        """
        return ()

    @property
    def factors(self) -> Tensor:
        """What each loss is multiplied with before the method sees it, ``[T]``."""
        if self.scaling is None:
            return self.priorities
        return self.priorities / self.scaling.divisors().to(self.priorities)

    def _as_seen(self, values: Tensor) -> Tensor:
        """Values of losses as the method sees them: divided by their scale, times their priorities.

        Args:
            values: ``[T]``, or as many as `among` shows.
        """
        if self.scaling is None:
            return values * self.priorities
        # In this order, for which a first value is exactly one.
        return values / self.scaling.divisors().to(values) * self.priorities

    @property
    def weights(self) -> dict[str, float]:
        """What each loss's gradient was multiplied with in the last step; zero where absent."""
        applied = self.resting * self.factors if self.last is None else self.last.weights
        return dict(zip(self.names, applied.tolist(), strict=True))

    @property
    def mean_weights(self) -> dict[str, float]:
        """The mean of the applied weights since the start, for retraining with `Fixed`."""
        return self.mean_weights_over(1.0)

    def mean_weights_over(self, last: float) -> dict[str, float]:
        """The mean of the applied weights over the last part of the training so far.

        Args:
            last: Which part: 0.25 leaves the first three quarters out. Up to 128 learned steps it
                is whole steps; beyond, the beginning is interpolated.

        Returns:
            By name. A loss without a weight in that part has its mean since the start; without any,
            the weight that it would have.

        Raises:
            ValueError: If ``last`` is not above 0 and at most 1.
        """
        if not 0 < last <= 1:
            msg = f"`last` is {last!r}; it is a part of the training, above 0 and at most 1."
            raise ValueError(msg)
        now = torch.stack([self.weight_sum, self.weight_count])
        begin = self._calls - max(round(last * self._calls), 1)
        parts = [now]
        if last < 1 and begin > 0:
            parts.append(now - sums_at(self.weight_marks, begin, self._calls, now))
        mean = self.resting * self.factors
        for weight_sum, count in parts:
            mean = torch.where(count > 0, weight_sum / count, mean)
        return dict(zip(self.names, mean.tolist(), strict=True))

    def report(self) -> dict[str, float]:
        """The last record as flat numbers: see `Record.report`.

        Raises:
            RuntimeError: If there was no step yet.
        """
        return self._said().report()

    def register_record_hook(self, fn: Hook, *, every: int = 1) -> RemovableHandle:
        """Registers what is called after each step, as ``torch.nn.Module`` registers hooks.

        A step is one that trains: none is counted in `frozen`, in evaluation mode, or under
        ``torch.no_grad()``. Steps that a loss spoils which is not finite are steps. A
        wrapper tells of each step once, with what was applied; the balancer inside it takes none.

        Args:
            fn: ``fn(balancer, record, step)``, with the record of the step, whose reading
                synchronises, and the number of steps that came before it. That number is saved with
                the balancer, so it goes on where a checkpoint was taken.
            every: Calls it at each ``every``-th step only, the first included.

        Returns:
            A handle whose ``remove()`` takes it out again.

        Example:
            >>> from equipoise import Equal
            >>> balancer, seen = Equal(["a", "b"]), []
            >>> handle = balancer.register_record_hook(lambda b, record, step: seen.append(step))
            >>> weight = torch.ones(2, requires_grad=True)
            >>> for _ in range(3):
            ...     record = balancer.backward({"a": weight.sum(), "b": weight.prod()})
            >>> handle.remove()
            >>> seen
            [0, 1, 2]
        """
        return self._record_hooks.register(fn, every)

    def register_record_pre_hook(self, fn: Hook, *, every: int = 1) -> RemovableHandle:
        """Registers what is called before each step goes backward, while the graph is alive.

        Args:
            fn: ``fn(balancer, losses, step)``, with the losses of the step that are there by name.
                Whatever it does with the graph, it must keep it (``retain_graph=True``).
            every: As for `register_record_hook`.

        Returns:
            A handle whose ``remove()`` takes it out again.
        """
        return self._record_pre_hooks.register(fn, every)

    def extra_repr(self) -> str:
        """The names of the losses, and the options that are not their defaults."""
        return ", ".join([*self.names, *shown_options(self)])

    def _method(self) -> str:
        """What to call the method in messages."""
        return type(self).__name__

    def _begin(self, losses: Losses) -> Step:
        """Reads the losses of a step; tells whether it recomputes the weights, and counts it.

        A step with a NaN or infinite loss does not count. Where the values lie on an accelerator
        that is left to `_guarded`, which needs no synchronisation.
        """
        self._kept = True
        terms = self._scheduled(self._read(losses))
        due = self.learning and self._calls % self.every == 0
        if due or not self.weighting:  # a formula runs, on numbers that are the same everywhere
            self._average.replicated.refuse_uneven()
            terms = self.processes.agree(terms)
            self._agree_on_draws()
        values = terms.values()
        self.follow(values)
        if self.nonfinite == "raise":
            _raise_if_not_finite(values, terms.present_names)
        agreed = terms.given is not None or self.processes.count == 1
        known = values.is_cpu and agreed
        self._idle += due
        if known and due:
            self._speak_up(terms)
        if self.learning and known and not all_finite(values):
            nonfinite = (~values.isfinite()).long()
            self.skipped += spread(nonfinite, terms.present, len(self.names), 0)
            return Step(terms, due=False, counts=False)
        if self.learning and agreed and self.scaling is not None:
            with self.among(terms.present):
                self.scaling.learn(values)
        self._calls += self.learning
        return Step(terms, due, counts=self.learning)

    def _read(self, losses: Losses) -> Terms:
        terms = read_losses(losses, self.names, graphless=self.graphless)
        tell_graphless(terms, self._warned)
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
        state = self.small_state()
        before = [buffer.clone() for buffer in state.values()]
        result = formula().detach()
        after = self.small_state()
        # A finite loss may have a square that is not, and state that is infinite never recovers.
        kept = all_finite(values) & all_finite(result) & none_infinite(after.values())
        self._kept = kept = kept if gradients is None else kept & gradients.finite()
        if not isinstance(kept, bool) or kept:
            self._idle = 0
        if kept is True:
            return result
        kept = torch.as_tensor(kept, device=values.device)
        for buffer, was in zip(after.values(), before, strict=True):
            if was.shape == buffer.shape:
                buffer.copy_(torch.where(kept, buffer, was))
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
            scale=None if self.scaling is None else self.scaling.divisors(),
            norms=None if norms is None else spread(norms, present, count, torch.nan),
            cosines=None if cosines is None else spread(cosines, present, count, torch.nan),
            apart=()
            if gradients is None
            else tuple(terms.present_names[i] for i in gradients.apart),
        )
        if self.learning and (terms.given is not None or self.processes.count == 1):
            self._count_weights(self.last, finite=all_finite(values))

    def _count_weights(self, record: Record, *, finite: bool | Tensor) -> None:
        """Counts the applied weights into their mean, where the losses were finite."""
        if finite is False:
            return
        weights, there = record.weights, torch.ones_like(record.weights)
        if len(record.present) < len(self.names):
            there = spread(there[: len(record.present)], record.present, len(self.names), 0.0)
        if isinstance(finite, Tensor):
            weights, there = torch.where(finite, weights, 0.0), there * finite
        self.weight_sum.add_(weights)
        self.weight_count.add_(there)
        now = self.weight_sum, self.weight_count
        set_mark(self.weight_marks, self._calls, now, counted=finite & self._kept)

    def _opens(self, terms: Terms) -> None:
        """Tells who asked for it that a step is about to go backward."""
        if self.learning and self._record_pre_hooks.due(self._steps):
            names = [terms.present_names[place] for place in terms.here]
            losses = dict(zip(names, terms.tensors, strict=True))
            self._record_pre_hooks.call(self, losses, self._steps)

    def _closes(self) -> Record:
        """Counts the step and tells who asked for it what it saw and applied.

        It is counted first: a checkpoint taken inside a hook goes on with the next step.
        """
        record = self._said()
        if self.learning:
            step, self._steps = self._steps, self._steps + 1
            self._record_hooks.call(self, record, step)
        return record

    def _said(self) -> Record:
        """The record of the last step.

        Raises:
            RuntimeError: If there was none.
        """
        if self.last is None:
            msg = "There was no step yet; call `backward(losses)` first."
            raise RuntimeError(msg)
        return self.last

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:  # noqa: ANN401
        """Marks start afresh where a checkpoint has other losses, or is of version 0.1."""
        names, key = state_dict.get(f"{prefix}loss_names"), f"{prefix}weight_marks"
        if names is None or decoded(names) != self.names or key not in state_dict:
            state_dict[key] = torch.zeros_like(self.weight_marks)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _differs(self, name: str, saved: Tensor, exact: Tensor) -> bool:
        """A scheduled priority is what its schedule says, whatever it was."""
        if name == "priorities":
            saved, exact = saved.clone(), exact.clone()
            for i in self.schedules.at(0):
                saved[i] = exact[i] = 0
        return super()._differs(name, saved, exact)


def _raise_if_not_finite(values: Tensor, names: tuple[str, ...]) -> None:
    for name, value in zip(names, values.tolist(), strict=True):
        if not abs(value) < float("inf"):
            msg = (
                f"Loss {name!r} is {value}. Nothing was learned from this step; "
                "nonfinite='skip' goes on without stopping."
            )
            raise ValueError(msg)
