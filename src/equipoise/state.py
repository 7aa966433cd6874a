"""`Stateful`: declared state, saved whole, that follows the losses and rests for absent ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Stateful(nn.Module):
    """A module whose state is declared, so that saving, moving and absent losses need no code.

    Attributes:
        names: The names of the ``T`` losses.
    """

    names: tuple[str, ...]

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self._calls = 0
        self._axes: dict[str, int] = {}
        self._wide: set[str] = set()
        self._exact: dict[str, Tensor] = {}

    def state(self, name: str, value: Tensor, *, axes: int = 1) -> None:
        """Declares a piece of state, a buffer that is saved and resumed.

        Args:
            name: The attribute under which the formula reads and assigns it.
            value: Its value before the first step; a number given in float64 is kept exactly for
                losses in float64. A trailing size of 0 says that only the
                gradients tell its width: the formula assigns it whole at the first step.
            axes: How many leading axes run over the losses: 1 for ``[T, ...]``, 2 for ``[T, T]``, 0
                for state that is not told apart by loss. While a loss is absent the formula sees
                the state without it, and what belongs to it rests.
        """
        if value.dtype == torch.float64:
            self._exact[name] = value
            value = value.to(torch.get_default_dtype())
        self.register_buffer(name, value)
        self._axes[name] = axes
        if value.ndim > 0 and value.shape[-1] == 0:
            self._wide.add(name)

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint holds besides the buffers: the names, and how many steps there were."""
        return {"losses": list(self.names), "calls": self._calls}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_extra_state` gave."""
        self._calls = int(state["calls"])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:  # noqa: ANN401
        """Takes losses by name, and adopts dtypes and widths, before values are copied in."""
        extra = state_dict.get(f"{prefix}_extra_state", {})
        saved_names = tuple(extra.get("losses", self.names))
        if saved_names != self.names:
            _warn_of_change(saved_names, self.names)
            for name, axes in self._axes.items():
                saved = state_dict.get(prefix + name)
                if axes and isinstance(saved, Tensor):
                    state_dict[prefix + name] = self._by_name(name, saved, saved_names)
        for name, buffer in self._buffers.items():
            saved = state_dict.get(prefix + name)
            if not isinstance(saved, Tensor) or buffer is None:
                continue
            shape = saved.shape if name in self._wide else buffer.shape
            if saved.dtype != buffer.dtype or shape != buffer.shape:
                self._buffers[name] = buffer.new_empty(shape, dtype=saved.dtype)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _by_name(self, name: str, saved: Tensor, saved_names: tuple[str, ...]) -> Tensor:
        """Saved state in the order of today's losses; one that is new keeps what it starts with."""
        mine: Tensor = getattr(self, name)
        if name in self._wide:
            mine = saved.new_zeros(*mine.shape[:-1], saved.shape[-1])
        common = [loss for loss in self.names if loss in saved_names]
        to = tuple(self.names.index(loss) for loss in common)
        source = tuple(saved_names.index(loss) for loss in common)
        part = saved[_places(source, self._axes[name], saved)]
        mine = mine.to(device=saved.device, dtype=saved.dtype)
        return mine.index_put(_places(to, self._axes[name], saved), part)

    def follow(self, values: Tensor) -> Tensor:
        """Moves the state to where the values are, and up to their precision.

        Args:
            values: Detached loss values.

        Returns:
            The values in the state's dtype.
        """
        mine = next(b for b in self.buffers(recurse=False) if b.is_floating_point())
        dtype = torch.promote_types(mine.dtype, values.dtype)
        if mine.dtype != dtype or mine.device != values.device:
            modules = [module for module in self.modules() if isinstance(module, Stateful)]
            before = [{name: getattr(m, name) for name in m._exact} for m in modules]
            self.to(device=values.device, dtype=dtype)
            for module, buffers in zip(modules, before, strict=True):
                module._restore_exact(buffers)
        return values.to(dtype)

    def _restore_exact(self, before: dict[str, Tensor]) -> None:
        """What still has the value that it was given takes that value in full precision."""
        for name, was in before.items():
            exact = self._exact[name].to(was.device)
            if torch.equal(exact.to(was.dtype), was):
                now: Tensor = getattr(self, name)
                self._buffers[name] = exact.to(now)

    @contextmanager
    def among(self, present: tuple[int, ...]) -> Iterator[None]:
        """Shows only the state of these losses, of this module and those inside it.

        A module inside that is built for other losses keeps all of its state.
        """
        if len(present) == len(self.names):
            yield
            return
        with ExitStack() as stack:
            for module in self.modules():
                if isinstance(module, Stateful) and module.names == self.names:
                    stack.enter_context(module._narrowed(present))
            yield

    @contextmanager
    def _narrowed(self, present: tuple[int, ...]) -> Iterator[None]:
        whole = {name: getattr(self, name) for name, axes in self._axes.items() if axes}
        for name, buffer in whole.items():
            self._buffers[name] = buffer[_places(present, self._axes[name], buffer)]
        try:
            yield
        finally:
            for name, buffer in whole.items():
                part: Tensor = getattr(self, name)
                if name in self._wide and part.shape[-1] != buffer.shape[-1]:
                    buffer = part.new_zeros(*buffer.shape[:-1], part.shape[-1])  # noqa: PLW2901
                places = _places(present, self._axes[name], buffer)
                self._buffers[name] = buffer.index_put(places, part)

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Takes every change of state back at the end of the ``with`` block."""
        modules = [module for module in self.modules() if isinstance(module, Stateful)]
        before = [
            {name: getattr(module, name).clone() for name in module._axes} for module in modules
        ]
        try:
            yield
        finally:
            for module, buffers in zip(modules, before, strict=True):
                module._buffers.update(buffers)

    def small_state(self) -> dict[str, Tensor]:
        """The state that is small whatever the model is: all but that as wide as a gradient."""
        return {
            f"{prefix}.{name}": getattr(module, name)
            for prefix, module in self.named_modules()
            if isinstance(module, Stateful)
            for name in module._axes
            if name not in module._wide
        }


def _warn_of_change(saved: tuple[str, ...], names: tuple[str, ...]) -> None:
    added = [repr(name) for name in names if name not in saved]
    removed = [repr(name) for name in saved if name not in names]
    if added or removed:
        told = [f"{', '.join(added)} is new and starts afresh"] if added else []
        told += [f"{', '.join(removed)} is gone and its state is dropped"] if removed else []
        warnings.warn(f"The checkpoint has other losses: {'; '.join(told)}.", stacklevel=2)


def _places(present: tuple[int, ...], axes: int, buffer: Tensor) -> tuple[Tensor, ...]:
    index = torch.tensor(present, device=buffer.device)
    return (index,) if axes == 1 else (index[:, None], index)
