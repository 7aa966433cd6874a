"""Losses divided by what they were at first, before a method sees them."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from equipoise.state import Stateful

Scale: TypeAlias = Literal["first_value"] | tuple[Literal["first_value"], int]
"""What losses are divided by: their first value, or the mean of their first ``k`` values."""

_FIRST = "first_value"


class FirstValueScale(Stateful):
    """The mean magnitude of the first ``count`` values of each loss.

    Args:
        names: Those of the losses.
        count: How many values the mean is taken of, ``k``. Until then it is that of those met.
    """

    total: Tensor
    met: Tensor

    def __init__(self, names: tuple[str, ...], count: int) -> None:
        super().__init__(names)
        self.count = count
        self.state("total", torch.zeros(len(names)))
        self.state("met", torch.zeros(len(names)))

    def learn(self, values: Tensor) -> None:
        """Takes the values of a step in; zeros tell no scale, nor does what is not finite.

        Args:
            values: ``[len(present)]``, as the model gave them.
        """
        values = values.abs().to(self.total)
        early = (self.met < self.count) & (values > 0) & values.isfinite()
        self.total = self.total + torch.where(early, values, 0.0)
        self.met = self.met + early.to(self.met)

    def divisors(self) -> Tensor:
        """What the losses are divided by, ``[T]``: one for those not met yet."""
        return torch.where(self.met > 0, self.total / self.met.clamp(min=1), 1.0)


def read_scale(scale: Scale | None, names: tuple[str, ...]) -> FirstValueScale | None:
    """The scale that a user asks for.

    Args:
        scale: ``None``, ``"first_value"``, or ``("first_value", k)``.
        names: Those of the losses.

    Raises:
        ValueError: If it is something else, or ``k`` is no whole number of at least 1.
    """
    if scale is None:
        return None
    word, count = (scale, 1) if isinstance(scale, str) else _pair(scale)
    if word != _FIRST or isinstance(count, bool) or not isinstance(count, int) or count < 1:
        msg = (
            f"`scale` is {scale!r}; write 'first_value', or ('first_value', k) for the mean of the "
            "first k values, or None."
        )
        raise ValueError(msg)
    return FirstValueScale(names, count)


def _pair(scale: object) -> tuple[object, object]:
    """Also a list, as configuration files write it."""
    if isinstance(scale, tuple | list) and len(scale) == 2:
        return scale[0], scale[1]
    return scale, 1
