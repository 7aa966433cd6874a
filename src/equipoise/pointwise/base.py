"""`Pointwise`: one number per point, for all points or for those of a mini-batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:

    class _Module(nn.Module):
        def __call__(self, residuals: Tensor, index: Tensor | None = None) -> Tensor: ...

else:
    _Module = nn.Module


class Pointwise(_Module, ABC):
    """Weights of points that learn from their residuals.

    A residual that is NaN or infinite reaches no state; the loss shows it. Nothing is learned under
    ``torch.no_grad()`` or in evaluation mode. In data-parallel training each process has points of
    its own, and so a module of its own.

    Args:
        points: How many points there are, ``P``.

    Raises:
        ValueError: If there is none.
    """

    def __init__(self, points: int) -> None:
        super().__init__()
        if isinstance(points, bool) or not isinstance(points, int) or points < 1:
            msg = (
                f"`points` is {points!r}; it is how many collocation points there are, at least 1."
            )
            raise ValueError(msg)
        self.points = points
        self._initial: dict[str, Tensor] = {}

    @property
    def names(self) -> range:
        """The points, by number."""
        return range(self.points)

    def state(self, name: str, value: Tensor) -> None:
        """Declares one number per point, a buffer that is saved and resumed.

        Args:
            name: Of the buffer.
            value: ``[P]``, before the first step.
        """
        self._initial[name] = value
        self.register_buffer(name, value.clone())

    @property
    def learning(self) -> bool:
        """Whether calls advance the state."""
        return self.training and torch.is_grad_enabled()

    def reset(self, index: Tensor | None = None) -> None:
        """Lets points start afresh, as after they were drawn anew.

        Args:
            index: Which, ``[n]`` positions; default all.
        """
        places = slice(None) if index is None else index
        for name, initial in self._initial.items():
            buffer = self.get_buffer(name)
            buffer[places] = initial.to(buffer)[places]

    def forward(self, residuals: Tensor, index: Tensor | None = None) -> Tensor:
        """The loss of some points.

        Args:
            residuals: ``[N]`` or ``[N, 1]``, one residual per point.
            index: ``[N]``, which points these are; default all ``P``, in order. What is kept of
                the others rests.

        Returns:
            A scalar, for ``backward()`` or as one of a balancer's losses.

        Raises:
            ValueError: If there are not as many residuals as points.
        """
        flat = self._flat(residuals, index)
        self._follow(flat)
        places = torch.arange(self.points, device=flat.device) if index is None else index
        if self.learning:
            with torch.no_grad():
                self._learn(flat.detach(), places.to(flat.device))
        return self._loss(flat, places.to(flat.device))

    @abstractmethod
    def _learn(self, residuals: Tensor, places: Tensor) -> None:
        """Advances the state of the points at these places, ``[N]`` each."""

    @abstractmethod
    def _loss(self, residuals: Tensor, places: Tensor) -> Tensor:
        """The loss of the points at these places."""

    def _flat(self, residuals: Tensor, index: Tensor | None) -> Tensor:
        count = self.points if index is None else len(index)
        if residuals.numel() == count and residuals.shape[:1] == (count,):
            return residuals.reshape(count)
        told = "of points in `index`" if index is not None else "of `points`"
        instead = (
            "Give one residual per point: a module for each equation."
            if residuals.shape[:1] == (count,)
            else "Say with `index` which points these are; after drawing others, call `reset`."
        )
        msg = f"Got residuals of shape {tuple(residuals.shape)}, and {count} is the number {told}. "
        raise ValueError(msg + instead)

    def _follow(self, residuals: Tensor) -> None:
        """The state goes where the residuals are, and up to their precision."""
        like = next(self.buffers())
        dtype = torch.promote_types(like.dtype, residuals.dtype)
        if like.device != residuals.device or like.dtype != dtype:
            self.to(device=residuals.device, dtype=dtype)
