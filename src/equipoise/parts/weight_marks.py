"""What weights were on average over the last part of a training of unknown length.

Marks are sums of weights as they stood at regular steps of the past. At most 128 are kept: when
they are full, every second one goes, and from then on they are set half as often. So the mean over
a last part is exact up to 128 steps; beyond, its beginning is interpolated between two marks that
lie less than a sixty-fourth of the training apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

MARKS = 128


def set_mark(
    marks: Tensor, step: int, now: tuple[Tensor, Tensor], *, counted: bool | Tensor
) -> None:
    """Sets the mark of a step, if it has one.

    Args:
        marks: ``[MARKS, 2, T]``, changed in place.
        step: How many steps were learned, this one included.
        now: ``[T]`` sums of the applied weights, and of how many each is made.
        counted: Whether this step is among them; otherwise it leaves no mark.
    """
    stride = _stride(step)
    if step > 1 and stride > _stride(step - 1):
        marks[: MARKS // 2] = marks[1::2].clone()
        marks[MARKS // 2 :] = 0
    if step > 0 and step % stride == 0:
        place = marks[step // stride - 1]
        if counted is not False:
            mark = torch.stack(now)
            place.copy_(mark if counted is True else torch.where(counted, mark, place))


def sums_at(marks: Tensor, begin: int, step: int, now: Tensor) -> Tensor:
    """Sums and counts as they stood after a step of the past, ``[2, T]``.

    Args:
        marks: As they are now.
        begin: That step.
        step: How many steps were learned until now.
        now: ``[2, T]``, as they are now.
    """
    stride = _stride(step)
    place, rest = divmod(begin, stride)
    before = _mark(marks, place)
    if rest == 0:
        return before
    end = min((place + 1) * stride, step)
    after = now if end == step else _mark(marks, place + 1)
    return before + (after - before) * rest / (end - place * stride)


def _mark(marks: Tensor, place: int) -> Tensor:
    """The mark at a place, or the newest before it; zeros at the start."""
    while place and not bool(marks[place - 1].any()):
        place -= 1
    return marks[place - 1] if place else torch.zeros_like(marks[0])


def _stride(step: int) -> int:
    """How many steps lie between two marks when so many steps were learned."""
    stride = 1
    while step > MARKS * stride:
        stride *= 2
    return stride
