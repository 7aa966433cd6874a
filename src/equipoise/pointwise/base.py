"""`Pointwise`: a weight for each collocation point; residuals in, a scalar loss out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from equipoise.pointwise.residuals import Index, check_count, flat, places
from equipoise.state import Stateful

Rows: TypeAlias = dict[str, Tensor]


class ResidualLoss(Stateful):
    """A scalar loss made of per-point residuals, with declared state that is saved and resumed.

    It learns in training mode with gradients enabled, and never otherwise.
    """

    def __init__(self) -> None:
        super().__init__(("residuals",))

    @property
    def learning(self) -> bool:
        """Whether a call changes the state."""
        return self.training and torch.is_grad_enabled()


class Pointwise(ResidualLoss):
    """What methods with one weight per point share: `forward`, `reset` and `weights`.

    A method declares its state with `_declare` and supplies `_learned` and `_weights`. Every call
    in training learns, so each evaluation of L-BFGS does, too; in ``eval()`` the weights stand
    still. Where processes have points of their own, keep the module out of
    `DistributedDataParallel`, which would give all of them the first one's state.
    """

    def __init__(self, points: int | None) -> None:
        super().__init__()
        check_count(points=points)
        self._lead = ""

    def _declare(self, name: str, start: Tensor) -> None:
        """Declares ``[points]`` state; the first declared tells how many points there are."""
        self._lead = self._lead or name
        self.state(name, start, axes=0)

    @property
    def points(self) -> int | None:
        """How many points have state; `None` before the first call tells."""
        return len(self.get_buffer(self._lead)) or None

    @property
    def weights(self) -> Tensor:
        """``[points]`` what the squared residuals would be multiplied with now."""
        rows = self._rows(None, self.points or 0)
        return self._weights(rows, rows)

    def forward(self, residuals: Tensor, index: Index | None = None) -> Tensor:
        """The weighted mean of the squared residuals; a step of learning with it.

        Non-finite residuals leave the whole state as it is, and make the loss non-finite, which is
        for the balancer above to see.

        Args:
            residuals: ``[N]`` or ``[N, 1]``, one per point, with a graph.
            index: ``[N]`` integers: which points these are, in a mini-batch. The state of all
                others rests. A point drawn twice learns once.

        Returns:
            A scalar with a graph; none leads through the weights.

        Raises:
            TypeError: If residuals are no tensor, or the index no integers.
            ValueError: If shapes or counts do not fit.
        """
        residuals = flat(residuals)
        where = None if index is None else self._where(index, residuals)
        if where is None:
            self._check_count(len(residuals))
        values = self.follow(residuals.detach())
        before = self._rows(where, len(residuals))
        after = before
        if self.learning:
            with torch.no_grad():
                after = self._kept(before, values)
                self._store(where, after)
            self._calls += 1
        # Squares of half precision overflow beyond 255, so they are taken in that of the state.
        return (self._weights(before, after) * residuals.to(values.dtype).square()).mean()

    def reset(self, index: Index | None = None, *, points: int | None = None) -> None:
        """Lets points start afresh, because they were resampled.

        Args:
            index: Which ones; all by default.
            points: How many points there are from now on, all of them new.

        Raises:
            ValueError: If the index does not fit, both are given, or points with initial weights of
                their own change in number.
        """
        if index is not None and points is not None:
            msg = "`index` and `points` are both given; write one: some points, or all of them."
            raise ValueError(msg)
        check_count(points=points)
        if points is not None:
            self._resize(points)
        if index is None:
            self.reset_parameters()
            return
        buffer = self.get_buffer(self._lead)
        numbers = torch.as_tensor(index, device=buffer.device)
        where = self._where(numbers, numbers.flatten())
        for name, declared in self.declared.items():
            buffer = self.get_buffer(name)
            start = declared.initial if declared.initial.numel() else torch.zeros(len(buffer))
            buffer[where] = start.to(buffer)[where]

    @abstractmethod
    def _learned(self, rows: Rows, residuals: Tensor) -> Rows:
        """The state of these points after this step; may change the rows it is given."""

    @abstractmethod
    def _weights(self, before: Rows, after: Rows) -> Tensor:
        """What squared residuals are multiplied with, from the state before and after learning."""

    def extra_repr(self) -> str:
        """How many points there are."""
        return f"points={self.points}"

    def _kept(self, before: Rows, values: Tensor) -> Rows:
        """What was learned, or the state before if something is not finite; without waiting."""
        after = self._learned({name: row.clone() for name, row in before.items()}, values)
        finite = torch.stack([row.isfinite().all() for row in (values, *after.values())]).all()
        return {name: torch.where(finite, after[name], row) for name, row in before.items()}

    def _rows(self, where: Tensor | None, count: int) -> Rows:
        buffers = {name: self.get_buffer(name) for name in self.declared}
        if self.points is None:  # how many there are, only a step that learns may settle
            return {name: buffer.new_zeros(count) for name, buffer in buffers.items()}
        return {name: b if where is None else b[where] for name, b in buffers.items()}

    def _store(self, where: Tensor | None, rows: Rows) -> None:
        for name, row in rows.items():
            if where is None:
                setattr(self, name, row)
            else:
                self.get_buffer(name)[where] = row

    def _where(self, index: Index, residuals: Tensor) -> Tensor:
        if self.points is None:
            name = type(self).__name__
            msg = f"`index` needs the number of all points; write `{name}(points=...)`."
            raise ValueError(msg)
        return places(index, residuals, self.points, of="points")

    def _check_count(self, count: int) -> None:
        if self.points not in (None, count):
            msg = (
                f"{count} residuals came for {self.points} points; write `index=` to say which "
                f"points they are of, or `reset(points={count})` first if all are new."
            )
            raise ValueError(msg)

    def _resize(self, points: int) -> None:
        for name, declared in self.declared.items():
            start = declared.initial if declared.initial.numel() else torch.zeros(1)
            if (start != start[0]).any():
                msg = (
                    "The points were given initial weights of their own, which do not fit "
                    f"{points} others; make a new {type(self).__name__}."
                )
                raise ValueError(msg)
            self.declared[name] = replace(declared, initial=start[:1].repeat(points))
