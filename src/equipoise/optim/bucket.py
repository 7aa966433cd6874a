"""Where the state of a multi-term optimizer lives: parameters that a step treats alike.

A bucket is one large parameter, or many small ones whose moments share one piece of memory, so that
a step costs a few operations for all of them together. What ``optimizer.state`` shows are views.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from equipoise.gradients import linalg
from equipoise.optim.hyperparameters import Group
from equipoise.parallel.dtensor import held, is_dtensor, local
from equipoise.parallel.dtensor import like as shown

ParameterState: TypeAlias = dict[str, Tensor]
"""What ``optimizer.state`` holds for one parameter."""

GroupT = TypeVar("GroupT", bound=Group)


def as_real(tensor: Tensor) -> Tensor:
    """The tensor itself; a complex one as pairs of real numbers, in the same memory."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def in_order(tensor: Tensor, stride: tuple[int, ...]) -> Tensor:
    """A tensor as ``[n]``, in the order of memory that strides of no gap and no overlap give it.

    Args:
        tensor: It is copied only if its memory lies otherwise.
        stride: One for each dimension.
    """
    if tensor.stride() != stride:
        tensor = tensor.new_empty_strided(tensor.shape, stride).copy_(tensor)
    return tensor.as_strided((tensor.numel(),), (1,))


def bias_correction(beta: float, count: Tensor) -> Tensor:
    """``1 - beta^t``, in float32 as exact for the first steps as for the last."""
    # The plain difference would lose four of seven digits at beta = 0.999 and t = 1.
    rate = math.log(beta) if beta else -math.inf
    return -torch.expm1(count.clamp_min(1) * rate)


class Bucket(ABC, Generic[GroupT]):
    """Parameters of one group, device and dtype that every step treats alike.

    Args:
        parameters: Their state moves into the bucket.
        group: Their hyperparameters, read anew in each step.
        states: The state of each, possibly empty; afterwards it holds views of the bucket.
        count: The number of losses, ``T``.
        on_device: Keep step counters beside the parameters, where no decision needs the host.

    Attributes:
        packed: Whether several parameters share the memory.
        sharded: Whether this process has only parts of some.
        size: The number of elements.
        room_of: The device and dtype of memory that `scaled` can use.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        group: GroupT,
        states: Sequence[ParameterState],
        count: int,
        *,
        on_device: bool,
    ) -> None:
        self.parameters = list(parameters)
        self.group = group
        self.packed = len(self.parameters) > 1
        self.sharded = any(map(is_dtensor, self.parameters))
        self._found = [local(parameter) for parameter in self.parameters]
        self._reals = [as_real(found) for found in self._found]
        self._sizes = [real.numel() for real in self._reals]
        self.size = sum(self._sizes)
        first = self._reals[0]
        self.room_of = first.device, first.dtype
        self._lengths = torch.tensor(self._sizes, device=first.device) if self.packed else None
        # State and `.grad` are laid out as the parameter is, channels last for example.
        self._strides = [torch.empty_like(real, device="meta").stride() for real in self._reals]
        self._stride = self._strides[0]
        self._contiguous = all(real.is_contiguous() for real in self._reals)
        # Norms and the like are kept in float32 at least, whatever the parameters are.
        self._wide = torch.float64 if first.dtype == torch.float64 else torch.float32
        self._zero_norm = first.new_zeros((), dtype=self._wide)
        self._counter = first.device if on_device else torch.device("cpu")
        self._total: Tensor | None = None
        self._grads: list[Tensor] = []
        self._views = self._make_state(count)
        for state, views in zip(states, self._views, strict=True):
            _move_state(state, views)

    @abstractmethod
    def _make_state(self, count: int) -> list[ParameterState]:
        """Makes the bucket's tensors; returns what of them belongs to each parameter."""

    @abstractmethod
    def absorb(self, loss: int, balanced: Tensor | None, keep: Tensor | None) -> None:
        """Takes the gradient of one loss into that loss's moments.

        Args:
            loss: Its position.
            balanced: In the bucket's layout, scaled; ``None`` is zero.
            keep: A boolean scalar; where it is false nothing changes.
        """

    def fold(
        self,
        loss: int,
        gradient: Tensor | None,
        scale: Tensor | None,
        keep: Tensor | None,
        scratch: Tensor | None = None,
    ) -> None:
        """Scales the gradient of one loss, takes it into its moments and adds it to the sum.

        Args:
            loss: Its position.
            gradient: In the bucket's layout, as `gather` makes it.
            scale: As `scaled` takes it.
            keep: A boolean scalar; where it is false nothing changes.
            scratch: As `scaled` takes it.
        """
        balanced = self.scaled(gradient, scale, keep, scratch)
        self.absorb(loss, balanced, keep)
        self.add(balanced)

    def owns(self, states: Iterable[ParameterState]) -> bool:
        """Whether the given states still are the bucket's views, not something loaded since."""
        return all(
            all(state.get(name) is view for name, view in views.items())
            for state, views in zip(states, self._views, strict=True)
        )

    def lies_still(self) -> bool:
        """Whether the parameters are where the bucket found them; asked where gradients are off.

        Whoever sets ``parameter.data`` moves them: ``module.to``, ``vector_to_parameters``, and
        ``fully_shard`` when it loads.
        """
        return all(map(Tensor.is_set_to, self._found, map(held, self.parameters)))

    def _zeros(self, *count: int) -> Tensor:
        first = self._reals[0]
        if self.packed:
            return first.new_zeros(*count, self.size)
        stride = (*(first.numel() for _ in count), *self._stride)
        return first.new_empty_strided((*count, *first.shape), stride).zero_()

    def _split(self, whole: Tensor) -> list[Tensor]:
        """Views of ``[..., n]``, one for each parameter and in its shape."""
        if not self.packed:
            return [whole]
        lead, leading = whole.shape[:-1], whole.stride()[:-1]
        parts = zip(torch.split(whole, self._sizes, dim=-1), self._reals, strict=True)
        if self._contiguous:
            return [part.view((*lead, *real.shape)) for part, real in parts]
        return [
            part.as_strided((*lead, *real.shape), (*leading, *stride), part.storage_offset())
            for (part, real), stride in zip(parts, self._strides, strict=True)
        ]

    def _shown(self, whole: Tensor) -> list[Tensor]:
        """The same as ``optimizer.state`` and ``.grad`` show it: shards of what is sharded."""
        parts = self._split(whole)
        if not self.sharded:
            return parts
        return [shown(part, p) for part, p in zip(parts, self.parameters, strict=True)]

    def gather(self, tensors: Sequence[Tensor | None]) -> Tensor | None:
        """One tensor a parameter made into one tensor; ``None`` stands for zeros.

        Returns:
            In the bucket's layout; ``None`` where all are.
        """
        present = [tensor for tensor in tensors if tensor is not None]
        if not present:
            return None
        if not self.packed:
            return as_real(present[0])
        if not self._contiguous:
            ordered = zip(tensors, self._strides, strict=True)
            tensors = [t if t is None else in_order(t, stride) for t, stride in ordered]
        elif len(present) == len(tensors):
            flat: Tensor = torch._C._nn.flatten_dense_tensors(present)
            return flat
        zero = self._reals[0].new_zeros(1)
        parts = zip(tensors, self._sizes, strict=True)
        return torch.cat([zero.expand(n) if t is None else t.reshape(-1) for t, n in parts])

    def measure(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """The L2 norm of each gradient, ``[k]``; 0 where there is none."""
        zero, reached = self._zero_norm, [g for g in gradients if g is not None]
        if not reached:
            return zero.new_zeros(len(gradients))
        # A norm in float16 overflows at 65504, so it is taken in the dtype of the averages.
        norms = linalg.tensor_norms(reached, zero.dtype)
        if len(reached) < len(gradients):
            measured = iter(norms)
            norms = [zero if gradient is None else next(measured) for gradient in gradients]
        return torch.stack(norms).to(zero)

    def scaled(
        self,
        whole: Tensor | None,
        scale: Tensor | None,
        keep: Tensor | None,
        scratch: Tensor | None = None,
    ) -> Tensor | None:
        """``s_j g_j`` for each parameter ``j``.

        Args:
            whole: The gradients in the bucket's layout, as `gather` makes them; where several
                parameters share it, its memory is used for the result.
            scale: ``[k]``; ``None`` is one for all.
            keep: A boolean scalar; where it is false the result is zero.
            scratch: Memory that may hold the result: a large new tensor costs more than its
                arithmetic.

        Returns:
            ``None`` where all gradients are.
        """
        if whole is None:
            return None
        if scale is None:
            return whole if keep is None else whole.masked_fill(~keep.to(whole.device), 0.0)
        whole = self._times(whole, scale.to(whole.device), scratch)
        return whole if keep is None else whole.masked_fill_(~keep.to(whole.device), 0.0)

    def _times(self, whole: Tensor, scale: Tensor, scratch: Tensor | None) -> Tensor:
        if self._lengths is not None:
            spread = scale.repeat_interleave(self._lengths, output_size=whole.numel())
            return whole.mul_(spread.to(whole.dtype))
        shape = self._reals[0].shape
        if scratch is None:
            return (whole * scale[0]).to(whole.dtype)  # two scalars would widen each other
        return torch.mul(whole, scale[0], out=scratch.as_strided(shape, self._stride))

    def add(self, whole: Tensor | None) -> None:
        """Adds the gradient of one loss, as it was folded, to the sum."""
        if whole is None:
            return
        if self._total is not None:
            self._total.add_(whole)
        elif self.packed:
            self._total = whole.clone()
        else:
            self._total = whole.new_empty_strided(whole.shape, self._stride).copy_(whole)

    def publish(self, keep: Tensor | None) -> None:
        """Writes the sum to ``.grad``, NaN where ``keep`` is false."""
        total = self._zeros() if self._total is None else self._total
        if keep is not None:
            total.masked_fill_(~keep.to(total.device), torch.nan)
        self._total = total
        self._grads = [
            torch.view_as_complex(part) if parameter.is_complex() else part
            for part, parameter in zip(self._shown(total), self.parameters, strict=True)
        ]
        for parameter, grad in zip(self.parameters, self._grads, strict=True):
            parameter.grad = grad

    @property
    def written(self) -> list[Tensor]:
        """The parameters whose ``.grad`` still is what was published."""
        pairs = zip(self.parameters, self._grads, strict=bool(self._grads))
        return [parameter for parameter, grad in pairs if parameter.grad is grad]

    def _published(self, keep: Tensor | None) -> Tensor:
        """What ``.grad`` holds now: the sum that was published, unless the user changed it."""
        given = [parameter.grad for parameter in self.parameters]
        kept = len(self._grads) == len(given) and all(map(operator.is_, given, self._grads))
        held = given if not self.sharded else [g if g is None else local(g) for g in given]
        gradient = self._total if kept else self.gather(held)
        if gradient is None:
            return self._zeros()
        return gradient if keep is None else gradient.masked_fill(~keep.to(gradient.device), 0.0)

    def saved(self) -> list[Tensor]:
        """Copies of all state."""
        return [view.clone() for views in self._views for view in views.values()]

    def put_back(self, saved: Iterable[Tensor]) -> None:
        """Makes the state what `saved` returned."""
        views = [view for views in self._views for view in views.values()]
        for view, before in zip(views, saved, strict=True):
            view.copy_(before)

    def forget(self) -> None:
        """Lets go of the step under way; the sum stays in ``.grad`` while the user keeps it."""
        self._total, self._grads = None, []

    def _move(self, moment: Tensor, denominator: Tensor, value: float) -> None:
        """``p += value m / d`` for each parameter."""
        moments, denominators = self._split(moment), self._split(denominator)
        torch._foreach_addcdiv_(self._reals, moments, denominators, value)

    def _if(self, keep: Tensor, value: float) -> Tensor:
        """The number where ``keep`` holds, else 0; a scalar beside the parameters."""
        real = self._reals[0]
        return real.new_full((), value) * keep.to(real.device)


def _move_state(state: ParameterState, views: ParameterState) -> None:
    """Puts views in the place of a parameter's state, with the values that it had."""
    for name, view in views.items():
        if name in state:
            view.copy_(state[name])
        state[name] = view
