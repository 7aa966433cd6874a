"""Counts the backward passes of a step, on the trunk itself."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle
    from typing_extensions import Self


class PassCounter:
    """Counts the backward passes of all graphs that a trunk starts while the context is open.

    A batched (vmap) pass counts once, however many losses share it.

    Args:
        trunk: Its first module's output is the bottom, its own output the top.

    Attributes:
        entering: How often a gradient arrived at the trunk's output.
        through: How often one arrived at its first module: passes through the whole trunk.

    Example:
        >>> import torch
        >>> trunk = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        >>> with PassCounter(trunk) as counter:
        ...     trunk(torch.ones(1, 2)).sum().backward()
        >>> counter.entering, counter.through
        (1, 1)
    """

    def __init__(self, trunk: nn.Sequential) -> None:
        self.trunk = trunk
        self.entering = 0
        self.through = 0
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self._handles = [
            self.trunk.register_forward_hook(self._watch_top),
            self.trunk[0].register_forward_hook(self._watch_bottom),
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _watch_top(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        output.register_hook(self._enter)

    def _watch_bottom(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        output.register_hook(self._run_through)

    def _enter(self, _gradient: Tensor) -> None:
        self.entering += 1

    def _run_through(self, _gradient: Tensor) -> None:
        self.through += 1
