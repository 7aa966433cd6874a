"""Whose step is priced: the project's methods, and references to compare with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

import equipoise as eq
from equipoise.benchmarks.baseline import plain_sum
from equipoise.benchmarks.bench.models import Outputs, PricedModel
from equipoise.benchmarks.methods import FIXED, MULTI_TERM_OPTIMIZERS, Method, method_class
from equipoise.benchmarks.refusal import RequestError

Backward: TypeAlias = Callable[[Outputs], object]
"""What a step does after the forward pass."""

Build: TypeAlias = Callable[[PricedModel], Backward]
"""Prepares a step on a model."""

Kind: TypeAlias = Literal["reference", "method", "peer"]


@dataclass(frozen=True)
class Case:
    """A row of the benchmark.

    Args:
        label: What the row is called.
        build: Prepares the step on a model of its own.
        kind: The project's ``"method"``, somebody else's (``"peer"``), or a ``"reference"``.
        method: The registry's name of the method, where it is one.
        every: After how many steps its work repeats; they are timed together.
        updates: Whether the step also updates the parameters. Then it is compared with a plain sum
            and Adam's update.
        variant: Tells apart several ways to run the row; the fastest one counts.
    """

    label: str
    build: Build
    kind: Kind
    method: str = ""
    every: int = 1
    updates: bool = False
    variant: str = ""

    def __str__(self) -> str:
        """What is shown while it is measured."""
        return self.label


@dataclass(frozen=True)
class Knobs:
    """What is set for every method that looks at gradients.

    Args:
        every: Each value gives such a method a row, unless its own options say otherwise.
        wrt: Where gradients are watched; by default what the method's paper uses.
        rows: How many rows of the Jacobian may be alive at a time; by default all.

    Raises:
        RequestError: If `rows` is below 2.
    """

    every: tuple[int, ...] = (1,)
    wrt: Literal["shared", "last_shared", "representation"] | None = None
    rows: int | None = None

    def __post_init__(self) -> None:
        """Refuses a budget that cannot be kept, before anything is measured."""
        if self.rows is not None and self.rows < 2:
            raise RequestError(f"--rows is at least 2, to compare gradients; got {self.rows}.")

    def options(self, own: Collection[str] = ()) -> dict[str, object]:
        """The keywords for a constructor of `equipoise.Aggregation`.

        Args:
            own: The options that a method was given itself; they are left alone.
        """
        given: dict[str, object] = {} if self.wrt is None else {"wrt": self.wrt}
        if self.rows is not None:
            given["measuring"] = eq.Measuring(rows=self.rows)
        return {key: value for key, value in given.items() if key not in own}

    def suffix(self, own: Collection[str] = ()) -> str:
        """What rows of methods with these options are called behind their own label."""
        wrt = "" if self.wrt is None or "wrt" in own else f":wrt={self.wrt}"
        return wrt if self.rows is None else f"{wrt}:rows={self.rows}"


def sum_losses(_model: PricedModel) -> Backward:
    """The plain sum: what the price of a step is measured against."""
    return lambda outputs: plain_sum(outputs.losses)


def plain_sum_and_adam(model: PricedModel) -> Backward:
    """The plain sum and Adam's update: what an optimizer for several losses is measured against.

    Args:
        model: What is updated.

    Returns:
        The step.
    """
    optimizer = torch.optim.Adam(model.parameters())

    def backward(outputs: Outputs) -> None:
        plain_sum(outputs.losses)
        optimizer.step()

    return backward


def bare_passes(model: PricedModel) -> Backward:
    """The least an exact Gramian can cost: ``T`` passes, their rows, and one matrix product.

    Args:
        model: Its trunk is what the gradients are taken of.

    Returns:
        The step; it leaves no ``.grad``.
    """
    parameters = tuple(model.trunk.parameters())
    width = sum(parameter.numel() for parameter in parameters)
    rows = torch.empty(model.count, width, device=model.inputs.device)

    def backward(outputs: Outputs) -> None:
        for row, loss in zip(rows, outputs.losses, strict=True):
            _fill(row, torch.autograd.grad(loss, parameters, retain_graph=True))
        torch.mm(rows, rows.T)

    return backward


def _fill(row: Tensor, gradients: Sequence[Tensor]) -> None:
    torch.cat([gradient.reshape(-1) for gradient in gradients], out=row)


REFERENCES = (
    Case("plain sum", sum_losses, "reference"),
    Case("T passes + Gramian", bare_passes, "reference"),
)
"""The first shows what the measurement can tell apart: its ratio is 1 up to noise."""


def method_cases(methods: Sequence[Method], knobs: Knobs) -> list[Case]:
    """The rows of the project's methods.

    Args:
        methods: Which, with their own options.
        knobs: What is set for those that look at gradients.

    Returns:
        One row for each method and value of ``every``.
    """
    return [case for method in methods for case in _cases(method, knobs)]


def _cases(method: Method, knobs: Knobs) -> list[Case]:
    if method.name in MULTI_TERM_OPTIMIZERS:
        build = _optimizer_step(method)
        return [Case(method.label, build, "method", method.name, updates=True)]
    kind = method_class(method.name)
    if not issubclass(kind, eq.Aggregation):
        return [Case(method.label, _balancer_step(method, {}), "method", method.name)]
    own = method.options.get("every")
    repeats = knobs.every if own is None and kind.weighting else (int(cast("int", own or 1)),)
    return [_aggregation_case(method, knobs, every) for every in repeats]


def _aggregation_case(method: Method, knobs: Knobs, every: int) -> Case:
    timed = Method(method.name, {**method.options, "every": every})
    label = timed.label if every > 1 else method.label
    build = _balancer_step(timed, knobs.options(method.options))
    return Case(label + knobs.suffix(method.options), build, "method", method.name, every)


def _balancer_step(method: Method, given: dict[str, object]) -> Build:
    def build(model: PricedModel) -> Backward:
        count = model.count
        needed = {"weights": [1.0] * count} if method.name == FIXED else {}
        options = {**needed, **method.options, **given}
        # Every balancer is of one of these kinds, which is where `backward` is declared.
        made = eq.create_balancer(method.name, count, **options)
        balancer = cast("eq.Weighting | eq.Aggregation", made).to(model.inputs.device)
        return lambda outputs: balancer.backward(outputs.losses)

    return build


def _optimizer_step(method: Method) -> Build:
    def build(model: PricedModel) -> Backward:
        options: dict[str, Any] = dict(method.options)
        optimizer = MULTI_TERM_OPTIMIZERS[method.name](model.parameters(), **options)

        def backward(outputs: Outputs) -> None:
            optimizer.backward(outputs.losses)
            optimizer.step()

        return backward

    return build
