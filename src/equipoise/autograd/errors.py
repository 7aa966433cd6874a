"""PyTorch's errors about a graph that cannot go backward, said in the words of several losses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from equipoise.autograd.graph import is_compiled_node

_CHANGED_IN_PLACE = "modified by an inplace operation"
_DONATED = "donated buffers"
_SETTING = (
    "Write `torch._functorch.config.donated_buffer = False` before the model is compiled, or "
    "compile the shared part alone: `model.trunk.compile()`."
)


@contextmanager
def explained() -> Iterator[None]:
    """Names the cause where autograd names a tensor, or a buffer, that the user never made.

    Raises:
        RuntimeError: In place of autograd's, where parameters were stepped between a loss and its
            backward pass, or a compiled function cannot be passed more than once.
    """
    try:
        yield
    except RuntimeError as error:
        msg = _explanation(str(error))
        if msg is None:
            raise
        raise RuntimeError(msg) from error


def _explanation(message: str) -> str | None:
    if _CHANGED_IN_PLACE in message:
        return (
            "A loss goes backward through parameters that have changed since it was computed: an "
            "optimizer stepped in between, so compute the loss again after that step, or detach "
            "what the stepped network gave (or, if a layer of the model works in place, write it "
            "without)."
        )
    if _DONATED in message:
        return (
            "A compiled function was built to go backward once, and gives its buffers away; "
            f"measuring the gradients of several losses passes it several times. {_SETTING}"
        )
    return None


def warn_of_donated_buffers(losses: Sequence[Tensor]) -> bool:
    """Warns where a wholly compiled model is to be passed several times.

    As soon as its input changes shape (the last batch of an epoch is enough), the compiler builds a
    function that can go backward but once, and the training would end there.

    Args:
        losses: The live scalars of a step.

    Returns:
        Whether it warned.
    """
    whole = any(loss.grad_fn is not None and is_compiled_node(loss.grad_fn) for loss in losses)
    if not whole or not torch._functorch.config.donated_buffer:
        return False
    msg = (
        "The losses come from a wholly compiled model. Once its input changes shape, PyTorch "
        f"builds a function that can go backward but once, and this training would end. {_SETTING}"
    )
    warnings.warn(msg, stacklevel=2)
    return True
