"""`Stateful`: declared state, saved whole, that follows the losses and rests for absent ones."""

from __future__ import annotations

import inspect
import warnings
from abc import ABCMeta
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn


class _MadeOnTheCPU(ABCMeta):
    """Balancers are made on the CPU, whatever `torch.device` context surrounds them.

    Under ``with torch.device("meta")`` a model has no numbers; a balancer needs those that it was
    given and starts from, which `Stateful.reset_parameters` puts back.
    """

    if not TYPE_CHECKING:

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            """Makes an instance."""
            with torch.device("cpu"):
                return super().__call__(*args, **kwargs)

    @property
    def __signature__(cls) -> inspect.Signature:
        """That of the constructor, for ``help()`` and whoever else asks."""
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        _self, *parameters = signature.parameters.values()
        return signature.replace(parameters=parameters)


@dataclass(frozen=True)
class Declared:
    """What is known of a piece of state.

    Attributes:
        initial: The value that it starts from, on the CPU; float64 where it was given so.
        axes: How many leading axes run over the losses.
        rests: Whether what belongs to an absent loss is hidden from the formula.
        given: Whether it is an option that only the user changes.
        tally: Whether it counts what was applied, which no formula changes.
        wide: Whether it is as wide as a gradient, which only the gradients tell.
    """

    initial: Tensor
    axes: int
    rests: bool
    given: bool
    tally: bool = False
    wide: bool = field(init=False)

    def __post_init__(self) -> None:
        """A trailing size of zero waits for its width."""
        wide = self.initial.ndim > 0 and self.initial.shape[-1] == 0
        object.__setattr__(self, "wide", wide)


class Stateful(nn.Module, metaclass=_MadeOnTheCPU):
    """A module whose state is declared, so that saving, moving and absent losses need no code.

    ``state_dict()`` holds tensors only, so that whatever averages, moves or stores the buffers of a
    model takes it too: beside the declared state, ``calls``, how many steps were learned,
    ``missed_calls``, how many were taken besides, and ``loss_names``, by which a checkpoint with
    other losses is read.

    Attributes:
        names: The names of the ``T`` losses.
        declared: What `state` and `option` were told, by name.
    """

    names: tuple[str, ...]
    calls: Tensor
    missed_calls: Tensor
    loss_names: Tensor

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.declared: dict[str, Declared] = {}
        self._calls = 0
        self._steps = 0
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("missed_calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("loss_names", _encoded(names))

    def state(
        self, name: str, value: Tensor, *, axes: int = 1, rests: bool = True, tally: bool = False
    ) -> None:
        """Declares a piece of state, a buffer that is saved and resumed.

        Args:
            name: The attribute under which the formula reads and assigns it.
            value: Its value before the first step; a number given in float64 is kept exactly for
                losses in float64. A trailing size of 0 says that only the gradients tell its width:
                the formula assigns it whole at the first step.
            axes: How many leading axes run over the losses: 1 for ``[T, ...]``, 2 for ``[T, T]``, 0
                for state that is not told apart by loss.
            rests: Whether the formula sees it without the losses that are absent, whose part then
                rests. Otherwise it always sees all of it.
            tally: Whether it counts what was applied, after the formula, which never changes it.
        """
        rests = rests and axes > 0
        self._hold(name, Declared(value, axes, rests=rests, given=False, tally=tally))

    def option(self, name: str, value: Tensor, *, axes: int = 1) -> None:
        """Declares numbers that the user gave and no formula changes.

        They follow the losses and are narrowed as state is. Where a checkpoint holds others, those
        given now count, with a warning.

        Args:
            name: The attribute under which the formula reads it.
            value: As for `state`.
            axes: As for `state`.
        """
        self._hold(name, Declared(value, axes, rests=axes > 0, given=True))

    def set_option(self, name: str, value: Tensor) -> None:
        """Gives an option another value, of the same shape.

        Args:
            name: As it was declared.
            value: As for `state`.
        """
        self.declared[name] = replace(self.declared[name], initial=value)
        self._buffers[name] = value.to(getattr(self, name), copy=True)

    def _hold(self, name: str, declared: Declared) -> None:
        self.declared[name] = declared
        value = declared.initial
        if value.dtype == torch.float64:
            value = value.to(torch.get_default_dtype())
        self.register_buffer(name, value.clone())

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """As ever, but that state is no parameter.

        Args:
            name: The attribute.
            param: The parameter.

        Raises:
            TypeError: If state has this name.
        """
        if name in self.declared:
            raise self._not_trained(name, "was made a parameter")
        super().register_parameter(name, param)

    def reset_parameters(self) -> None:
        """Starts afresh, as after ``to_empty()``: a buffer made empty holds anything."""
        self._calls = self._steps = 0
        self.loss_names = _encoded(self.names).to(self.loss_names)
        for name, declared in self.declared.items():
            self._buffers[name] = declared.initial.to(getattr(self, name), copy=True)

    def _save_to_state_dict(self, *args: Any) -> None:  # noqa: ANN401
        self.calls.fill_(self._calls)
        # What lies inside a wrapper learns, and takes no step of its own.
        self.missed_calls.fill_(max(self._steps - self._calls, 0))
        super()._save_to_state_dict(*args)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        metadata: dict[str, Any],
        strict: bool,  # noqa: FBT001 (the signature is torch's)
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        """Takes losses by name, and adopts dtypes and widths, before values are copied in."""
        self._read_first_format(state_dict, prefix)
        self._take_by_name(state_dict, prefix)
        self._keep_what_was_given(state_dict, prefix)
        self._adopt(state_dict, prefix)
        if strict and not self._is_mine(state_dict, prefix):
            kind = type(self).__name__
            errors.append(
                f"What the checkpoint holds is not the state of {kind}: load it into the method "
                f"that saved it, or leave it out, and {kind} starts anew."
            )
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, unexpected, errors
        )
        self._calls = int(self.calls)
        self._steps = self._calls + int(self.missed_calls)

    def _read_first_format(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Checkpoints of version 0.1 held names and step count in a dictionary."""
        extra = state_dict.pop(f"{prefix}_extra_state", None)
        if extra is not None:
            state_dict[f"{prefix}calls"] = torch.tensor(int(extra["calls"]))
            state_dict[f"{prefix}loss_names"] = _encoded(tuple(extra["losses"]))
            self._convert(extra, state_dict, prefix)
        if f"{prefix}calls" in state_dict:  # until then only steps that were learned were counted
            state_dict.setdefault(f"{prefix}missed_calls", torch.zeros((), dtype=torch.long))

    def _is_mine(self, state_dict: dict[str, Any], prefix: str) -> bool:
        """Whether a checkpoint has a value for each buffer and nothing besides."""
        here = [key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)]
        saved = {name for name in here if "." not in name}
        return saved == self._buffers.keys()

    def _convert(self, extra: dict[str, Any], state_dict: dict[str, Any], prefix: str) -> None:
        """What else version 0.1 kept there; for those that kept something."""

    def _take_by_name(self, state_dict: dict[str, Any], prefix: str) -> None:
        encoded = state_dict.get(f"{prefix}loss_names")
        saved_names = self.names if encoded is None else decoded(encoded)
        if saved_names == self.names:
            return
        _warn_of_change(saved_names, self.names)
        state_dict[f"{prefix}loss_names"] = self.loss_names
        for name, declared in self.declared.items():
            saved = state_dict.get(prefix + name)
            if declared.axes and isinstance(saved, Tensor):
                state_dict[prefix + name] = self._by_name(name, saved, saved_names)

    def _by_name(self, name: str, saved: Tensor, saved_names: tuple[str, ...]) -> Tensor:
        """Saved state in the order of today's losses; one that is new keeps what it starts with."""
        mine, declared = getattr(self, name), self.declared[name]
        if declared.wide:
            mine = saved.new_zeros(*mine.shape[:-1], saved.shape[-1])
        common = [loss for loss in self.names if loss in saved_names]
        to = tuple(self.names.index(loss) for loss in common)
        source = tuple(saved_names.index(loss) for loss in common)
        part = saved[_places(source, declared.axes, saved)]
        mine = mine.to(device=saved.device, dtype=saved.dtype)
        placed: Tensor = mine.index_put(_places(to, declared.axes, saved), part)
        return placed

    def _keep_what_was_given(self, state_dict: dict[str, Any], prefix: str) -> None:
        for name, declared in self.declared.items():
            saved = state_dict.get(prefix + name)
            if not declared.given or not isinstance(saved, Tensor):
                continue
            exact = declared.initial.to(device=saved.device)
            if self._differs(name, saved, exact):
                msg = (
                    f"`{name}` was {saved.tolist()} in the checkpoint and is {exact.tolist()} now; "
                    "what was given now counts."
                )
                warnings.warn(msg, stacklevel=2)
            state_dict[prefix + name] = exact.to(saved.dtype)

    def _differs(self, name: str, saved: Tensor, exact: Tensor) -> bool:
        """Whether an option was another one, by more than the rounding of its dtype."""
        coarse = min(saved.dtype, torch.float32, key=lambda dtype: dtype.itemsize)
        return saved.shape != exact.shape or not torch.allclose(
            saved.to(torch.float64), exact.to(coarse).to(torch.float64), rtol=1e-6, equal_nan=True
        )

    def _adopt(self, state_dict: dict[str, Any], prefix: str) -> None:
        for name, buffer in self._buffers.items():
            saved = state_dict.get(prefix + name)
            if not isinstance(saved, Tensor) or buffer is None:
                continue
            declared = self.declared.get(name)
            wide = declared is not None and declared.wide
            shape = saved.shape if wide else buffer.shape
            if saved.dtype != buffer.dtype or shape != buffer.shape:
                self._buffers[name] = buffer.new_empty(shape, dtype=saved.dtype)

    def follow(self, values: Tensor) -> Tensor:
        """Moves the state to where the values are, and up to their precision.

        Args:
            values: Detached loss values.

        Returns:
            The values in the state's dtype.

        Raises:
            TypeError: If state requires grad.
        """
        self._refuse_trainable()
        mine = self.loss_names
        dtype = torch.promote_types(mine.dtype, values.dtype)
        if mine.dtype != dtype or mine.device != values.device:
            modules = [module for module in self.modules() if isinstance(module, Stateful)]
            before = [{name: getattr(m, name) for name in m.declared} for m in modules]
            with torch.inference_mode(mode=False):  # buffers made there could never learn
                self.to(device=values.device, dtype=dtype)
                for module, buffers in zip(modules, before, strict=True):
                    module._restore_exact(buffers)
        return values.to(dtype)

    def _refuse_trainable(self) -> None:
        """State that requires grad would grow a graph from step to step."""
        for name, buffer in self._buffers.items():
            if buffer is not None and buffer.requires_grad:
                raise self._not_trained(name, "requires grad")

    def _not_trained(self, name: str, what: str) -> TypeError:
        kind = type(self).__name__
        return TypeError(
            f"`{name}` of {kind} {what}, but {kind} changes its state itself: build it anew, and "
            "leave it out of the optimizer."
        )

    def _restore_exact(self, before: dict[str, Tensor]) -> None:
        """What still has the value that it was given takes that value in full precision."""
        for name, was in before.items():
            given = self.declared[name].initial
            if given.dtype != torch.float64:
                continue
            exact = given.to(was.device)
            if torch.equal(exact.to(was.dtype), was):
                now: Tensor = getattr(self, name)
                self._buffers[name] = exact.to(now, copy=True)

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
        resting = {name: d for name, d in self.declared.items() if d.rests}
        whole = {name: getattr(self, name) for name in resting}
        for name, buffer in whole.items():
            self._buffers[name] = buffer[_places(present, resting[name].axes, buffer)]
        try:
            yield
        finally:
            for name, buffer in whole.items():
                part: Tensor = getattr(self, name)
                if resting[name].wide and part.shape[-1] != buffer.shape[-1]:
                    buffer = part.new_zeros(*buffer.shape[:-1], part.shape[-1])  # noqa: PLW2901
                places = _places(present, resting[name].axes, buffer)
                self._buffers[name] = buffer.index_put(places, part)

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Takes every change of state back at the end of the ``with`` block."""
        modules = [module for module in self.modules() if isinstance(module, Stateful)]
        before = [
            {name: getattr(module, name).clone() for name in module.declared} for module in modules
        ]
        try:
            yield
        finally:
            for module, buffers in zip(modules, before, strict=True):
                module._buffers.update(buffers)

    def small_state(self) -> dict[str, Tensor]:
        """The state that a formula may change, but for that as wide as a gradient."""
        # Without modules inside, as most are, the walk over them costs more than the rest.
        modules = self.named_modules() if self._modules else (("", self),)
        return {
            f"{prefix}.{name}": getattr(module, name)
            for prefix, module in modules
            if isinstance(module, Stateful)
            for name, declared in module.declared.items()
            if not (declared.wide or declared.given or declared.tally)
        }

    def keeps_wide_state(self) -> bool:
        """Whether some state, of this module or those inside it, is as wide as a gradient."""
        modules = (module for module in self.modules() if isinstance(module, Stateful))
        return any(d.wide for module in modules for d in module.declared.values())


def _encoded(names: tuple[str, ...]) -> Tensor:
    """Names as the bytes of their UTF-8 text, a line for each.

    In floating point, because moving averages of a model's buffers would round integers down.
    """
    text = "\n".join(name.replace("\\", "\\\\").replace("\n", "\\n") for name in names)
    return torch.tensor(list(text.encode()), dtype=torch.float32)


def decoded(encoded: Tensor) -> tuple[str, ...]:
    """The names of losses as a checkpoint holds them."""
    text = bytes(encoded.round().to(torch.uint8).tolist()).decode(errors="replace")
    return tuple(
        line.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
        for line in text.split("\n")
    )


def _warn_of_change(saved: tuple[str, ...], names: tuple[str, ...]) -> None:
    added = [repr(name) for name in names if name not in saved]
    removed = [repr(name) for name in saved if name not in names]
    if added or removed:
        told = [f"{', '.join(added)} is new and starts afresh"] if added else []
        told += [f"{', '.join(removed)} is gone and its state is dropped"] if removed else []
        warnings.warn(f"The checkpoint has other losses: {'; '.join(told)}.", stacklevel=2)


def _places(present: tuple[int, ...], axes: int, buffer: Tensor) -> tuple[Tensor, ...]:
    index = torch.tensor(present, device=buffer.device, dtype=torch.long)
    return (index,) if axes == 1 else (index[:, None], index)
