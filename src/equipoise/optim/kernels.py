"""MTAdam's arithmetic on flat memory, compiled so that everything is read and written once.

A step is bound by memory: taken operation by operation, the fold of one loss moves eleven numbers
for each parameter, in one loop five. The same functions run uncompiled where compiling fails.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

FUSED = 1 << 18
"""Parameters of at least this number of elements are worth a compiled call."""

Scalar: TypeAlias = "float | Tensor"
"""A number, or a scalar tensor where decisions stay on the device."""


def fold(
    gradient: Tensor,
    second_moment: Tensor,
    total: Tensor,
    scale: Tensor,
    keep: Tensor | None,
    beta2: float,
    *,
    first: bool,
) -> None:
    """``b = s g``, ``v = beta2 v + (1 - beta2) b^2``, ``total += b``.

    Args:
        gradient: ``g``, ``[n]``.
        second_moment: ``v``, ``[n]``, updated.
        total: The sum of the balanced gradients so far, ``[n]``, updated.
        scale: ``s``, a scalar.
        keep: A boolean scalar; where it is false nothing changes, whatever ``g`` holds.
        beta2: The decay rate.
        first: Whether nothing was added to ``total`` so far: then its values do not count.
    """
    balanced = gradient * scale
    squared = second_moment * beta2 + (1 - beta2) * (balanced * balanced)
    if keep is not None:
        balanced = torch.where(keep, balanced, 0.0)
        squared = torch.where(keep, squared, second_moment)
    second_moment.copy_(squared)
    total.copy_(balanced if first else total + balanced)


def descend(
    parameter: Tensor,
    first_moment: Tensor,
    second_moments: Tensor,
    largest: Tensor | None,
    gradient: Tensor,
    keep: Tensor | None,
    rate: float,
    shrinkage: Scalar,
    size: Scalar,
    correction: Scalar,
    eps: float,
) -> None:
    """``m += rate (g - m)``, then ``p = c p - size m / (sqrt(max_i v_i) / correction + eps)``.

    Args:
        parameter: ``p``, ``[n]``, updated.
        first_moment: ``m``, ``[n]``, updated.
        second_moments: ``v``, ``[T, n]``.
        largest: With AMSGrad the largest ``v`` so far, ``[n]``, updated.
        gradient: The sum of the balanced gradients, ``[n]``.
        keep: A boolean scalar; where it is false nothing changes.
        rate: ``1 - beta1``.
        shrinkage: ``c``, of decoupled weight decay.
        size: The learning rate over the bias correction of ``m``.
        correction: The root of the bias correction of ``v``.
        eps: Added to the denominator.
    """
    moment = torch.lerp(first_moment, gradient, rate)
    # Spelled out, so that the compiler sees a chain and no reduction.
    square = functools.reduce(torch.maximum, second_moments.unbind(0))
    if largest is not None:
        square = torch.maximum(square, largest)
        largest.copy_(square)
    moved = parameter * shrinkage - size * (moment / (square.sqrt() / correction + eps))
    if keep is not None:
        moment = torch.where(keep, moment, first_moment)
        moved = torch.where(keep, moved, parameter)
    first_moment.copy_(moment)
    parameter.copy_(moved)


class Kernels:
    """Decides what is compiled, and runs it.

    Args:
        fused: Whether to compile; ``None`` is yes on a GPU that Triton writes code for, and no on
            the CPU, where the first step would wait for a C++ compiler.
    """

    def __init__(self, fused: bool | None) -> None:
        self._fused = fused
        self._failed = False

    def suit(self, tensor: Tensor) -> bool:
        """Whether steps of this parameter are to be compiled.

        Args:
            tensor: The parameter, real, as this process has it.
        """
        dense = tensor.stride() == torch.empty_like(tensor, device="meta").stride()
        return dense and tensor.numel() >= FUSED and self._compiles_for(tensor.device)

    def _compiles_for(self, device: torch.device) -> bool:
        if self._fused is not None:
            return self._fused
        return device.type == "cuda" and torch.utils._triton.has_triton()

    def run(self, function: Callable[..., None], *arguments: object, **flags: bool) -> None:
        """Runs a function of this module.

        Args:
            function: `fold` or `descend`.
            arguments: Its own.
            flags: What it is compiled for, each case by itself.

        Raises:
            RuntimeError: If it cannot be compiled, but has to be.
        """
        if self._failed:
            function(*arguments, **flags)
            return
        try:
            _compiled(function)(*arguments, **flags)
        except torch._dynamo.exc.TorchDynamoException as error:
            if self._fused:
                msg = (
                    "`fused=True` compiles the update, which failed here: on the CPU it needs a "
                    "C++ compiler, on a GPU Triton. Leave `fused` out to go on without."
                )
                raise RuntimeError(msg) from error
            self._failed = True
            warnings.warn(f"MTAdam's update is not compiled. {error}", stacklevel=2)
            function(*arguments, **flags)


@functools.cache
def _compiled(function: Callable[..., None]) -> Callable[..., Any]:
    # Numbers and lengths vary from parameter to parameter and from step to step.
    return torch.compile(function, dynamic=True)


def flat(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor as ``[n]``, in the order in which the memory of another one lies.

    Args:
        tensor: Of the same shape; it is copied only if its memory lies otherwise.
        like: A dense tensor.
    """
    if tensor.stride() != like.stride():
        tensor = torch.empty_like(like).copy_(tensor)
    return tensor.as_strided((tensor.numel(),), (1,))
