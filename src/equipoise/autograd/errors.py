"""PyTorch's errors about a graph that cannot go backward, said in the words of several losses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_CHANGED_IN_PLACE = "modified by an inplace operation"
_DONATED = "donated buffers"
_SETTING = (
    "Write `import torch._functorch.config` and `torch._functorch.config.donated_buffer = False` "
    "before the model is compiled."
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


def warn_of_donated_buffers() -> None:
    """Warns where a compiled function is to be passed several times, unless PyTorch expects it.

    As soon as its input changes shape (the last batch of an epoch is enough), the compiler builds a
    function that can go backward but once, and the training would end there.
    """
    # A compiled function is there, so the compiler has imported its settings by now.
    if not torch._functorch.config.donated_buffer:
        return
    msg = (
        "The gradients of several losses are measured through a compiled function. Once its input "
        "changes shape, PyTorch builds one that can go backward but once, and this training would "
        f"end. {_SETTING}"
    )
    warnings.warn(msg, stacklevel=2)
