"""Which parameters a step updates by compiled code, and what runs where compiling fails."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

FUSED = 1 << 18
"""Parameters of at least this number of elements are worth a compiled call."""


class Compiler:
    """Decides what is compiled, and runs it.

    Args:
        fused: Whether to compile; ``None`` is yes on a GPU that Triton writes code for, and no on
            the CPU, where the first step would wait for a C++ compiler.
    """

    def __init__(self, fused: bool | None) -> None:
        self._fused = fused
        self._failed = False

    def suits(self, tensor: Tensor) -> bool:
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
        """Runs a function on flat memory.

        Args:
            function: It updates its arguments.
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
