"""`RecordHooks`: what is called before and after each step of a balancer, as torch keeps hooks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch.utils.hooks import RemovableHandle

Hook: TypeAlias = Callable[[Any, Any, int], object]
"""What is called after a step, ``fn(balancer, record, step)``, or before it, with its losses."""


@dataclass(frozen=True)
class _Registered:
    """A function and the steps for which it is called."""

    call: Hook
    every: int

    def due(self, step: int) -> bool:
        return step % self.every == 0


class RecordHooks:
    """The functions to call at some moment of each step, in the order of their registration.

    Copied and pickled with the module that holds them, as hooks of ``torch.nn.Module`` are.
    """

    def __init__(self) -> None:
        self._registered: OrderedDict[int, _Registered] = OrderedDict()

    def register(self, call: Hook, every: int) -> RemovableHandle:
        """Adds a function.

        Args:
            call: The function.
            every: It is called at each ``every``-th step, the first included.

        Returns:
            A handle whose ``remove()`` takes it out again.

        Raises:
            TypeError: If it cannot be called.
            ValueError: If ``every`` is no positive number.
        """
        if not callable(call):
            msg = f"`fn` is {call!r}; pass a function, which is called as fn(balancer, ..., step)."
            raise TypeError(msg)
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            msg = f"`every` is {every!r}; it is a number of steps, at least 1."
            raise ValueError(msg)
        handle = RemovableHandle(self._registered)
        self._registered[handle.id] = _Registered(call, every)
        return handle

    def due(self, step: int) -> bool:
        """Whether anything is to be called at a step."""
        return any(hook.due(step) for hook in self._registered.values())

    def call(self, balancer: object, what: object, step: int) -> None:
        """Calls what is due.

        Args:
            balancer: Whose step it is.
            what: Its record, or before the step its losses.
            step: How many steps came before it.
        """
        for hook in tuple(self._registered.values()):  # a hook may remove itself
            if hook.due(step):
                hook.call(balancer, what, step)
