"""`Balancer`: what every method has in common. `Weighting` and `Aggregation` are its two kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, TypedDict

import torch
from torch import Tensor

from equipoise.losses import Losses, LossNames, Terms, loss_names, read_losses
from equipoise.parallel.averaging import GradientAverage
from equipoise.parallel.processes import Processes
from equipoise.parts.random import Drawing
from equipoise.record import Record, spread
from equipoise.schedules import Priorities, Schedules
from equipoise.state import Stateful

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from equipoise.gradients.gradients import Gradients

LooksAt: TypeAlias = Literal["losses", "norms", "gramian", "gradients"]
"""What a method asks for, in the order of its price."""
PerLoss: TypeAlias = Mapping[str, float] | Sequence[float] | Tensor
"""One number a loss."""


class BalancerOptions(TypedDict, total=False):
    """What every balancer takes by keyword; see `Balancer`."""

    priorities: Priorities | None
    every: int
    nonfinite: Literal["skip", "raise"]
    process_group: ProcessGroup | None


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
        random: Whether the method draws random numbers.
        stateful: Whether a step depends on earlier ones.
    """

    looks_at: ClassVar[LooksAt] = "losses"
    weighting: ClassVar[bool] = True
    random: ClassVar[bool] = False
    stateful: ClassVar[bool] = False

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
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(loss_names(losses))
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            msg = f"`every` is {every!r}; it is a number of steps, at least 1."
            raise ValueError(msg)
        if nonfinite not in ("skip", "raise"):
            msg = f"`nonfinite` is {nonfinite!r}; write 'skip' or 'raise'."
            raise ValueError(msg)
        self.every = every
        self.nonfinite = nonfinite
        self.processes = Processes(process_group)
        self._average = GradientAverage(self.processes)
        self.last: Record | None = None
        self._frozen = False
        count = len(self.names)
        self.schedules = Schedules(priorities, self.names)
        self.state("priorities", self.schedules.first)
        self.state("resting", torch.ones(count))
        self.state("weight_sum", torch.zeros(count))
        self.state("weight_count", torch.zeros(count))
        self.state("skipped", torch.zeros(count, dtype=torch.long))

    @abstractmethod
    def forward(self, losses: Losses) -> Tensor:
        """The balanced loss, a scalar to call ``.backward()`` on."""

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
    def learning(self) -> bool:
        """Whether steps advance the state."""
        return self.training and not self._frozen

    def _begin(self, losses: Losses) -> tuple[Terms, bool]:
        """Reads the losses of a step; tells whether it recomputes the weights, and counts it.

        A step with a NaN or infinite loss does not count. Where the values lie on an accelerator
        that is left to `_guarded`, which needs no synchronisation.
        """
        terms = self._scheduled(read_losses(losses, self.names))
        due = self.learning and self._calls % self.every == 0
        if due:
            terms = self.processes.agree(terms)
            self._share_draws()
        self.follow(terms.values())
        if self.nonfinite == "raise":
            _raise_if_not_finite(terms.values(), terms.present_names)
        known = terms.values().device.type == "cpu" and (due or self.processes.count == 1)
        finite = terms.values().isfinite()
        if self.learning and known and not bool(finite.all()):
            self.skipped += spread((~finite).long(), terms.present, len(self.names), 0)
            return terms, False
        self._calls += self.learning
        return terms, due

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

    def _share_draws(self) -> None:
        if self.processes.count > 1:
            for module in self.modules():
                if isinstance(module, Drawing):
                    module.share(self.processes)

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
        kept = values.isfinite().all() & _all_finite(result)
        measured = None if gradients is None else gradients.finite()
        kept = kept if measured is None else kept & measured
        if kept.device.type == "cpu" and bool(kept):
            return result
        for name, buffer in self.small_state().items():
            if before[name].shape == buffer.shape:
                buffer.copy_(torch.where(kept, buffer, before[name]))
        self.skipped += (~kept).long()
        return torch.where(kept, result, fallback())

    def _note(self, terms: Terms, weights: Tensor, gradients: Gradients | None = None) -> Record:
        """Leaves the record of this step, and counts its weights into their mean."""
        count, present = len(self.names), terms.present
        values = terms.values()
        norms, cosines = (None, None) if gradients is None else gradients.measured()
        self.last = Record(
            names=self.names,
            present=present,
            losses=spread(values, present, count, torch.nan),
            weights=spread(weights, present, count, 0.0),
            total=values.sum(),
            norms=None if norms is None else spread(norms, present, count, torch.nan),
            cosines=None if cosines is None else spread(cosines, present, count, torch.nan),
        )
        if self.learning and (terms.given is not None or self.processes.count == 1):
            counted = values.isfinite().all().to(weights.dtype).expand(len(present))
            counted = spread(counted, present, count, 0.0)
            self.weight_sum += torch.where(counted > 0, self.last.weights, 0.0)
            self.weight_count += counted
        return self.last

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
        if self.last is None:
            msg = "There is nothing to report before the first step; call `backward(losses)` first."
            raise RuntimeError(msg)
        return self.last.report()

    def extra_repr(self) -> str:
        """The names of the losses."""
        return ", ".join(self.names)


def _all_finite(tensor: Tensor) -> Tensor:
    """Whether all is finite, a boolean scalar, without a copy of what is as wide as a gradient."""
    if tensor.numel() == 0:  # a process that has no column of what is sharded
        return torch.ones((), dtype=torch.bool, device=tensor.device)
    lowest, highest = tensor.aminmax()
    return lowest.isfinite() & highest.isfinite()


def _raise_if_not_finite(values: Tensor, names: tuple[str, ...]) -> None:
    for name, value in zip(names, values.tolist(), strict=True):
        if not abs(value) < float("inf"):
            msg = (
                f"Loss {name!r} is {value}. Nothing was learned from this step; "
                "nonfinite='skip' goes on without stopping."
            )
            raise ValueError(msg)
