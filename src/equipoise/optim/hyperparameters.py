"""The hyperparameters of a parameter group, and what they may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

from torch import Tensor

from equipoise.losses import per_loss

Granularity: TypeAlias = Literal["tensor", "layer", "group", "all"]
"""What one norm is taken over."""

Nonfinite: TypeAlias = Literal["skip", "raise"]
"""What becomes of a step whose losses are not finite."""

Ranks: TypeAlias = Mapping[str, float] | Sequence[float] | Tensor
"""How large the gradient of each loss is to be, relative to the anchor's."""

LossWeights: TypeAlias = Mapping[str, float] | Sequence[float] | Tensor
"""What the update of each loss is multiplied with."""


class Group(TypedDict):
    """The hyperparameters of a parameter group, as ``param_groups`` holds them."""

    lr: float | Tensor
    eps: float
    weight_decay: float


class MTAdamGroup(Group):
    """Those of MTAdam."""

    betas: tuple[float, float, float]
    amsgrad: bool
    decoupled_weight_decay: bool
    maximize: bool


class AutoBalanceGroup(Group):
    """Those of AutoBalance."""

    betas: tuple[float, float]


def check_group(group: Mapping[str, Any], betas: tuple[float, ...]) -> None:
    """Raises a ``ValueError`` that names the first hyperparameter out of range.

    Args:
        group: A parameter group.
        betas: The default ones.
    """
    for name in ("lr", "eps", "weight_decay"):
        value = group[name]
        # A learning rate on another device is not read: that would wait for the device.
        readable = not isinstance(value, Tensor) or value.device.type == "cpu"
        if isinstance(value, str) or (readable and not 0 <= float(value) < float("inf")):
            msg = f"`{name}` is {value!r}; it must be a finite number, zero or above."
            raise ValueError(msg)
    given = group["betas"]
    if len(given) != len(betas) or not all(0 <= beta < 1 for beta in given):
        count = {2: "two", 3: "three"}[len(betas)]
        msg = f"`betas` is {given!r}; give {count} numbers in [0, 1), such as {betas!r}."
        raise ValueError(msg)


def check_named(group: Mapping[str, Any], granularity: Granularity) -> None:
    """Raises a ``ValueError`` if layers are to be told apart, but parameters have no names."""
    if granularity == "layer" and "param_names" not in group:
        msg = (
            "`granularity='layer'` tells layers by the names of their parameters; "
            "pass `model.named_parameters()` instead of `model.parameters()`."
        )
        raise ValueError(msg)


def rank_of_each(ranks: Ranks | None, names: tuple[str, ...]) -> list[float]:
    """The rank of each loss, one where none is given.

    Raises:
        ValueError: If a name is unknown, the count is wrong, or a rank is not positive.
    """
    given = 1.0 if ranks is None else ranks
    numbers: list[float] = per_loss(given, names, "ranks", default=1.0).tolist()
    for name, rank in zip(names, numbers, strict=True):
        if rank <= 0:
            msg = f"`ranks` of loss {name!r} is {rank}; a rank is positive, 1.0 for equal shares."
            raise ValueError(msg)
    return numbers


def weight_of_each(
    weights: LossWeights | None, names: tuple[str, ...], argument: str, default: float
) -> list[float]:
    """The weight of each loss.

    Args:
        weights: As given; a name left out of a mapping gets ``default``.
        names: Of the losses.
        argument: What the weights are called in error messages.
        default: That of each loss where none is given.

    Raises:
        ValueError: If a name is unknown, the count is wrong, or a weight is negative.
    """
    given = default if weights is None else weights
    numbers: list[float] = per_loss(given, names, argument, default=default).tolist()
    for name, number in zip(names, numbers, strict=True):
        if not number >= 0:
            msg = f"`{argument}` of loss {name!r} is {number}; it must not be negative."
            raise ValueError(msg)
    return numbers


def named_parameters(groups: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Tensor, str]]:
    """Each parameter with what an error message calls it: its name, or else its shape."""
    for group in groups:
        names = group.get("param_names") or [None] * len(group["params"])
        for parameter, name in zip(group["params"], names, strict=True):
            shape = tuple(parameter.shape)
            yield parameter, f"a parameter of shape {shape}" if name is None else f"{name!r}"
