"""Priorities that change while the model trains: annealing, cycles, stages.

A schedule is anything that takes the number of learned steps and returns a priority. It stands in
``priorities`` where a number would, so it goes with every method, and since it knows nothing but
the step it is resumed with the balancer's own count of steps.

A loss whose priority is zero is left out of the step: logarithms and ratios in a method never see
it. In `DistributedDataParallel`, parameters that such a loss has for itself are then unused, which
takes ``find_unused_parameters=True``; a small number in place of zero does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor

from equipoise.losses import per_loss
from equipoise.parts.checks import check_choice, check_positive

Schedule: TypeAlias = Callable[[int], float]
"""The priority at a step, from the number of steps learned before it."""
Priorities: TypeAlias = Mapping[str, float | Schedule] | Sequence[float | Schedule] | Tensor
"""What multiplies each loss: a number, or a schedule."""
Shape: TypeAlias = Literal["linear", "cosine"]


@dataclass(frozen=True)
class Ramp:
    r"""Moves a priority from one number to another: KL annealing, warm-up, decay.

    With :math:`x = \min(t / N, 1)` after ``t`` steps,

    .. math:: p(t) = (1 - s)\, a + s\, b, \qquad
        s = x \ \text{(linear)}, \quad s = \tfrac12 (1 - \cos \pi x) \ \text{(cosine)}

    Args:
        start: ``a``, the priority in the first step.
        stop: ``b``, the priority after ``steps`` steps, and from then on.
        steps: ``N``.
        shape: How it moves: ``"linear"``, or ``"cosine"``, which starts and ends slowly.

    Raises:
        ValueError: If ``steps`` is not positive or ``shape`` unknown.

    Example:
        >>> from equipoise import Equal
        >>> annealed = Ramp(0.0, 1.0, steps=4)
        >>> [annealed(step) for step in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
        >>> balancer = Equal(["reconstruction", "kl"], priorities={"kl": annealed})

    References:
        Bowman, Vilnis, Vinyals, Dai, Jozefowicz, Bengio 2016, arXiv 1511.06349, section 3.1 (KL
        cost annealing).
    """

    start: float
    stop: float
    steps: int
    shape: Shape = "linear"

    def __post_init__(self) -> None:
        """Refuses a ramp without length."""
        check_positive(steps=self.steps)
        check_choice("shape", self.shape, ("linear", "cosine"))

    def __call__(self, step: int) -> float:
        """The priority after so many steps."""
        risen = _risen(min(step / self.steps, 1.0), self.shape)
        return (1 - risen) * self.start + risen * self.stop


@dataclass(frozen=True)
class Cycle:
    r"""Raises a priority from low to high again and again: cyclical KL annealing.

    With :math:`\tau = (t \bmod N) / N`, the priority rises from ``low`` to ``high`` while
    :math:`\tau \le R` and stays there for the rest of the cycle.

    Args:
        period: ``N``, the steps of a cycle.
        low: The priority at the start of each cycle.
        high: What it rises to.
        rising: ``R``, the part of a cycle in which it rises, in (0, 1]; paper: 0.5.
        cycles: After so many cycles it stays at ``high``; ``None`` never ends. Paper: 4 cycles over
            the whole training.
        shape: How it rises: ``"linear"`` or ``"cosine"``; the paper has both.

    Raises:
        ValueError: If a number is out of range or ``shape`` unknown.

    Example:
        >>> [Cycle(period=4)(step) for step in range(6)]
        [0.0, 0.5, 1.0, 1.0, 0.0, 0.5]

    References:
        Fu, Li, Liu, Gao, Celikyilmaz, Carin 2019, arXiv 1903.10145, equations 6 and 7.
    """

    period: int
    low: float = 0.0
    high: float = 1.0
    rising: float = 0.5
    cycles: int | None = None
    shape: Shape = "linear"

    def __post_init__(self) -> None:
        """Refuses a cycle without length."""
        check_positive(period=self.period, cycles=1 if self.cycles is None else self.cycles)
        check_choice("shape", self.shape, ("linear", "cosine"))
        if not 0 < self.rising <= 1:
            msg = f"`rising` is {self.rising}; it is a part of the cycle, in (0, 1]."
            raise ValueError(msg)

    def __call__(self, step: int) -> float:
        """The priority after so many steps."""
        if self.cycles is not None and step >= self.cycles * self.period:
            return self.high
        place = (step % self.period) / self.period
        risen = _risen(min(place / self.rising, 1.0), self.shape)
        return (1 - risen) * self.low + risen * self.high


@dataclass(frozen=True)
class Stages:
    """Switches a priority at stated steps: delayed starts, stages of a training.

    Args:
        starts: The step at which each stage starts, with its priority: a number, or a schedule that
            counts from the start of the stage. The first stage starts at step 0.

    Raises:
        ValueError: If no stage starts at step 0, or one at a negative step.

    Example:
        >>> late = Stages({0: 0.0, 1000: 1.0})
        >>> late(999), late(1000)
        (0.0, 1.0)
        >>> Stages({0: 0.0, 1000: Ramp(0.0, 1.0, steps=100)})(1050)
        0.5
    """

    starts: Mapping[int, float | Schedule]

    def __post_init__(self) -> None:
        """Refuses stages that leave the first step without one."""
        if not self.starts or min(self.starts) != 0:
            msg = f"`starts` is {dict(self.starts)}; its first stage starts at step 0."
            raise ValueError(msg)

    def __call__(self, step: int) -> float:
        """The priority after so many steps."""
        start = max(begun for begun in self.starts if begun <= step)
        stage = self.starts[start]
        return stage(step - start) if callable(stage) else stage


def _risen(progress: float, shape: Shape) -> float:
    return progress if shape == "linear" else (1 - math.cos(math.pi * progress)) / 2


class Schedules:
    """The schedules among the priorities of a balancer's losses.

    Args:
        priorities: By name or in order; a name left out of a mapping gets one.
        names: The names of the ``T`` losses.

    Raises:
        ValueError: If a name is unknown, the count is wrong, or a number not finite.

    Attributes:
        first: ``[T]`` float64, the priorities of the first step.
    """

    def __init__(self, priorities: Priorities | None, names: tuple[str, ...]) -> None:
        self.names = names
        self._by_name: dict[str, Schedule] = {}
        numbers: Mapping[str, float] | Sequence[float] | Tensor
        if priorities is None:
            numbers = {}
        elif isinstance(priorities, Mapping):
            numbers = {name: self._at_first(name, given) for name, given in priorities.items()}
        elif isinstance(priorities, Tensor):
            numbers = priorities
        else:
            named = (*names, *[""] * len(priorities))  # a wrong count is reported below
            numbers = [self._at_first(*pair) for pair in zip(named, priorities, strict=False)]
        self.first = per_loss(numbers, names, "priorities", default=1.0)

    def _at_first(self, name: str, given: float | Schedule) -> float:
        if not callable(given):
            return given
        self._by_name[name] = given
        return given(0)

    def at(self, step: int) -> dict[int, float]:
        """The scheduled priorities at a step.

        Args:
            step: How many steps were learned before it.

        Returns:
            By the position of the loss.

        Raises:
            ValueError: If a schedule gives no finite number.
        """
        found = {}
        for name, schedule in self._by_name.items():
            priority = schedule(step)
            if not math.isfinite(priority):
                msg = (
                    f"The schedule of loss {name!r} gave {priority} at step {step}; a priority is "
                    "a finite number."
                )
                raise ValueError(msg)
            found[self.names.index(name)] = float(priority)
        return found
