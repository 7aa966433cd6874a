"""What a user passes as losses, made into names, live scalars and a note of what is present."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from equipoise.words import brief, unknown_name

Losses: TypeAlias = Mapping[str, Tensor | float | None] | Sequence[Tensor | float] | Tensor
"""The losses of one step: by name (a name left out or ``None`` is absent), in order, or ``[T]``."""

Graphless: TypeAlias = Literal["absent", "raise"]
"""What becomes of a loss that is a number, or a tensor without a graph."""

LossNames: TypeAlias = int | Iterable[str]
"""What a balancer is built with: how many losses there are, or their unique names."""


def loss_names(losses: LossNames) -> tuple[str, ...]:
    """The names of the losses that a balancer is built for.

    Args:
        losses: A count, which names them ``"0"``, ``"1"``, ..., or unique names.

    Returns:
        The ``T`` names, in order.

    Raises:
        TypeError: If a name is not a string, or ``losses`` is neither a count nor names.
        ValueError: If there is no loss, or a name comes twice.

    Example:
        >>> loss_names(["depth", "normals"])
        ('depth', 'normals')
        >>> loss_names(2)
        ('0', '1')
    """
    if isinstance(losses, bool) or not isinstance(losses, int | Iterable):
        msg = (
            f"`losses` is a count or names, for example ['depth', 'normals']; got {brief(losses)}."
        )
        raise TypeError(msg)
    if isinstance(losses, str):
        msg = f"`losses` is a count or a sequence of names; for one loss write [{losses!r}]."
        raise TypeError(msg)
    names = tuple(map(str, range(losses))) if isinstance(losses, int) else tuple(losses)
    _check_names(names)
    return names


def names_brought(losses: Losses) -> tuple[str, ...]:
    """The names that the losses of a first step bring; for a sequence or a tensor, numbers.

    Args:
        losses: As a step is given them.

    Raises:
        TypeError: If they are no losses.
        ValueError: If they are one number, or none.
    """
    check_several(losses)
    return loss_names(losses if isinstance(losses, Mapping) else len(losses))


def _check_names(names: tuple[str, ...]) -> None:
    if not names:
        msg = "At least one loss is needed; `losses` names none."
        raise ValueError(msg)
    for name in names:
        if not isinstance(name, str):
            written = repr(str(name)) if isinstance(name, int | float) else "'depth'"
            msg = f"The name of a loss is a string, such as {written}; got {brief(name)}."
            raise TypeError(msg)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"The names of losses are unique; {', '.join(map(repr, twice))} comes twice."
        raise ValueError(msg)


def per_loss(
    given: Mapping[str, float] | Sequence[float] | Tensor | float,
    names: tuple[str, ...],
    argument: str,
    *,
    default: float | None = None,
) -> Tensor:
    """One number per loss, as a ``[T]`` float64 tensor, from a mapping, a sequence or one number.

    Args:
        given: By name, in order, or one number for all.
        names: The names of the ``T`` losses.
        argument: What the numbers are called in error messages.
        default: What a name left out of a mapping gets; ``None`` makes that an error.

    Returns:
        A ``[T]`` float64 tensor on the CPU.

    Raises:
        ValueError: If a name is unknown or missing, the count is wrong, a number not finite, or a
            tensor requires grad.

    Example:
        >>> per_loss({"a": 2.0}, ("a", "b"), "priorities", default=1.0)
        tensor([2., 1.], dtype=torch.float64)
    """
    if isinstance(given, Mapping):
        _check_known(given, names, argument)
        missing = [name for name in names if name not in given]
        if missing and default is None:
            msg = f"`{argument}` lacks {', '.join(map(repr, missing))}; give a number for each."
            raise ValueError(msg)
        given = [given.get(name, default or 0.0) for name in names]
    elif isinstance(given, int | float):
        given = [float(given)] * len(names)
    _refuse_trainable(given, argument)
    try:
        numbers = torch.as_tensor(given, dtype=torch.float64, device="cpu").detach().clone()
    except (TypeError, ValueError) as error:
        msg = f"`{argument}` is {brief(given)}; give numbers, one for each of {', '.join(names)}."
        raise type(error)(msg) from error
    if numbers.shape != (len(names),):
        msg = (
            f"`{argument}` needs {len(names)} numbers, one for each of {', '.join(names)}; "
            f"got shape {tuple(numbers.shape)}."
        )
        raise ValueError(msg)
    for name, number in zip(names, numbers.tolist(), strict=True):
        if not abs(number) < float("inf"):
            msg = f"`{argument}` of loss {name!r} is {number}; it must be a finite number."
            raise ValueError(msg)
    return numbers


@dataclass(frozen=True)
class Terms:
    """The loss terms of one step: those that this batch has.

    Attributes:
        names: The names of all ``T`` losses.
        present: The positions of those that are there, ascending. In a data-parallel run: that some
            process has.
        tensors: The live scalars (shape ``[]``) that this process has.
        here: Their positions in ``present``.
        given: The values of the losses that are there, if agreed upon between processes.
        everywhere: Whether every process has the losses that are there.
        constants: Losses without a graph, by position, with their values: they count as absent.
    """

    names: tuple[str, ...]
    present: tuple[int, ...]
    tensors: tuple[Tensor, ...]
    here: tuple[int, ...]
    given: Tensor | None = None
    everywhere: bool = True
    constants: tuple[tuple[int, Tensor], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every loss is there, on every process."""
        return self.everywhere and len(self.present) == len(self.names)

    @property
    def places(self) -> list[Tensor | None]:
        """The live scalars in the order of ``present``, ``None`` where another process has it."""
        places: list[Tensor | None] = [None] * len(self.present)
        for place, tensor in zip(self.here, self.tensors, strict=True):
            places[place] = tensor
        return places

    def without(self, positions: Collection[int]) -> Terms:
        """The same step, had these losses been absent from it; before processes agree.

        Args:
            positions: Of losses, among all ``T``.
        """
        kept = [
            (i, tensor)
            for i, tensor in zip(self.present, self.tensors, strict=True)
            if i not in positions
        ]
        present = tuple(i for i, _ in kept)
        tensors = tuple(tensor for _, tensor in kept)
        here = tuple(range(len(kept)))
        return Terms(self.names, present, tensors, here, constants=self.constants)

    def among(self, places: Sequence[int]) -> Terms:
        """The same step, had it only some of its losses.

        Args:
            places: Theirs in ``present``, ascending.
        """
        kept = [
            (places.index(place), tensor)
            for place, tensor in zip(self.here, self.tensors, strict=True)
            if place in places
        ]
        return replace(
            self,
            present=tuple(self.present[place] for place in places),
            tensors=tuple(tensor for _, tensor in kept),
            here=tuple(place for place, _ in kept),
            given=None if self.given is None else self.given[list(places)],
        )

    def times(self, factors: Tensor) -> Terms:
        """The same step with each loss multiplied.

        Args:
            factors: ``[len(present)]``.
        """
        mine = zip(self.tensors, self.mine(factors), strict=True)
        tensors = tuple(tensor * factor.to(tensor.dtype) for tensor, factor in mine)
        given = None if self.given is None else self.given * factors.to(self.given)
        return replace(self, tensors=tensors, given=given)

    def mine(self, numbers: Tensor) -> Tensor:
        """Those of ``[len(present)]`` numbers that belong to this process's tensors."""
        if len(self.here) == len(self.present):
            return numbers
        mine: Tensor = numbers[torch.tensor(self.here, device=numbers.device)]
        return mine

    @property
    def present_names(self) -> tuple[str, ...]:
        """The names of the losses that are there."""
        return tuple(self.names[i] for i in self.present)

    def values(self) -> Tensor:
        """The detached values of the losses that are there, at least float32.

        Returns:
            ``[len(present)]``.
        """
        return self._values

    @cached_property
    def _values(self) -> Tensor:
        if self.given is not None:
            return self.given
        values = torch.stack([tensor.detach() for tensor in self.tensors])
        return values if values.dtype == torch.float64 else values.float()

    def balanced(self, weights: Tensor) -> Tensor:
        """The balanced loss, ``sum_i w_i L_i``, a scalar of the graph.

        Args:
            weights: ``[len(present)]``, detached.

        Returns:
            A scalar to call ``.backward()`` on.
        """
        mine = zip(self.tensors, self.mine(weights), strict=True)
        weighted = [tensor * weight.to(tensor.dtype) for tensor, weight in mine]
        total: Tensor = sum(weighted[1:], start=weighted[0])
        return total


def read_losses(losses: Losses, names: tuple[str, ...], *, graphless: Graphless = "raise") -> Terms:
    """Checks the losses of a step and puts them in the order of ``names``.

    Under ``torch.no_grad()`` losses need no graph, as long as none has one: they are values then.

    Args:
        losses: A mapping by name, a sequence in order, or a ``[T]`` tensor.
        names: The names of all ``T`` losses.
        graphless: What becomes of a loss that is a number, or has no graph while others do, such as
            the zero of a batch without boxes.

    Returns:
        The terms that are there. Absent: left out of a mapping, ``None``, or without a graph.

    Raises:
        TypeError: If a loss is not a floating-point tensor.
        ValueError: If a name is unknown, the count is wrong, no loss is there or none has a graph,
            a loss is not a scalar, or lies on another device than the first; with
            ``graphless="raise"`` also if one has no graph.
    """
    given: Mapping[int, Tensor | float] = {
        i: plain(loss) if isinstance(loss, Tensor) else loss
        for i, loss in enumerate(_by_position(losses, names))
        if loss is not None
    }
    if not given:
        msg = f"No loss is there; give at least one of {', '.join(map(repr, names))}."
        raise ValueError(msg)
    constants = {i: _number(loss, names[i]) for i, loss in given.items() if not _has_graph(loss)}
    if len(constants) == len(given):
        given, constants = _values_alone(constants, names), {}
    elif graphless == "raise":
        constants = {}  # one among others is refused below
    found = {i: _scalar(loss, names[i]) for i, loss in given.items() if i not in constants}
    _check_devices(found, names)
    tensors = tuple(found.values())
    here = tuple(range(len(found)))
    return Terms(names, tuple(found), tensors, here, constants=tuple(constants.items()))


def plain(tensor: Tensor) -> Tensor:
    """The tensor without a subclass that only changes what Python sees of it.

    Such a one carries labels or units with it, and its attributes are made by its own constructor:
    what comes of it here, a detached value or one in another dtype, would lack them. One that says
    how its numbers are stored, a DTensor for example, stays.

    Args:
        tensor: Of any class.
    """
    kind = type(tensor)
    if kind is Tensor or kind.__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return tensor
    return tensor.as_subclass(Tensor)


def _has_graph(loss: Tensor | float) -> bool:
    return isinstance(loss, Tensor) and loss.requires_grad


def _number(loss: Tensor | float, name: str) -> Tensor:
    """The value of a loss that has no graph."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss.detach().reshape(())
    if isinstance(loss, int | float):
        return torch.tensor(float(loss))
    return _scalar(loss, name)  # which says what is wrong with it


def _values_alone(constants: Mapping[int, Tensor], names: tuple[str, ...]) -> dict[int, Tensor]:
    """Losses of which none has a graph: where no gradient is recorded, all there is to look at."""
    if torch.is_grad_enabled():
        called = ", ".join(repr(names[i]) for i in constants)
        msg = (
            f"No loss has a graph ({called}): each was detached, made under `torch.no_grad()`, is "
            "a number, or depends on no parameter that requires a gradient. Pass the losses as the "
            "model computed them, or skip the step."
        )
        raise ValueError(msg)
    device = next(iter(constants.values())).device
    for constant in constants.values():  # a number alone lies nowhere
        device = constant.device if constant.device.type != "cpu" else device
    return {i: value.to(device) for i, value in constants.items()}


def _check_devices(found: Mapping[int, Tensor], names: tuple[str, ...]) -> None:
    first, one = next(iter(found.items()))
    for i, tensor in found.items():
        if tensor.device != one.device:
            msg = (
                f"Loss {names[i]!r} is on {tensor.device}, loss {names[first]!r} on {one.device}; "
                f"move it with `.to({str(one.device)!r})`."
            )
            raise ValueError(msg)


def _by_position(losses: Losses, names: tuple[str, ...]) -> Sequence[Tensor | float | None]:
    check_several(losses)
    if isinstance(losses, Mapping):
        unknown = [name for name in losses if name not in names]
        if unknown:
            msg = (
                f"{unknown_name('losses', unknown[0], names)} A balancer is built with the names "
                "of all losses, those that start late too."
            )
            raise ValueError(msg)
        return [losses.get(name) for name in names]
    if isinstance(losses, Tensor):
        losses = plain(losses).unbind()
    if len(losses) != len(names):
        msg = (
            f"Got {len(losses)} losses for the {len(names)} names {', '.join(map(repr, names))}; "
            "pass a mapping by name when some are absent."
        )
        raise ValueError(msg)
    return losses


def check_several(losses: Losses) -> None:
    """Refuses what holds no losses, or one number where there should be several.

    Args:
        losses: As a step is given them.

    Raises:
        TypeError: If they are no mapping, sequence or tensor.
        ValueError: If they are a tensor that is no vector.
    """
    if isinstance(losses, float | int) or (isinstance(losses, Tensor) and losses.ndim == 0):
        msg = (
            "`losses` is one number; pass the losses themselves, by name or in order, and not "
            "their sum."
        )
        raise (ValueError if isinstance(losses, Tensor) else TypeError)(msg)
    if isinstance(losses, Tensor) and losses.ndim != 1:
        msg = (
            f"A tensor of losses has shape [T]; got {tuple(losses.shape)}. "
            "Reduce each loss to a scalar and stack them, or pass them by name."
        )
        raise ValueError(msg)
    if not isinstance(losses, Mapping | Sequence | Tensor) or isinstance(losses, str):
        msg = (
            "`losses` is a mapping by name, a sequence or a [T] tensor; "
            f"got something of type {type(losses).__name__}."
        )
        raise TypeError(msg)


def _refuse_trainable(given: Sequence[float] | Tensor, argument: str) -> None:
    members = given if isinstance(given, Sequence) else [given]
    if any(isinstance(member, Tensor) and member.requires_grad for member in members):
        msg = (
            f"`{argument}` requires grad, but no optimizer trains the numbers that a method is "
            "given; pass floats, or a tensor that is detached."
        )
        raise ValueError(msg)


def _check_known(given: Mapping[str, object], names: tuple[str, ...], argument: str) -> None:
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(unknown_name(argument, unknown[0], names))


def _scalar(loss: Tensor | float, name: str) -> Tensor:
    if not isinstance(loss, Tensor):
        msg = f"Loss {name!r} is a {type(loss).__name__}; pass the tensor that the model computed."
        raise TypeError(msg)
    if not loss.is_floating_point():
        msg = f"Loss {name!r} has dtype {loss.dtype}; a loss is a floating-point tensor."
        raise TypeError(msg)
    if loss.numel() != 1:
        msg = (
            f"Loss {name!r} is not a scalar: its shape is {tuple(loss.shape)}. "
            "Reduce it, for example with `.mean()`."
        )
        raise ValueError(msg)
    if torch.is_grad_enabled() and not loss.requires_grad:
        msg = (
            f"Loss {name!r} has no graph: it was detached, made under `torch.no_grad()`, or "
            "depends on no parameter. Leave it out of the mapping where it does not apply."
        )
        raise ValueError(msg)
    return loss if loss.ndim == 0 else loss.reshape(())
