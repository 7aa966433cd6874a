"""PyTorch's errors about a graph that cannot go backward, said in the words of several losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_CHANGED_IN_PLACE = "modified by an inplace operation"


@contextmanager
def explained() -> Iterator[None]:
    """Names the cause where parameters were stepped between a loss and its backward pass.

    Raises:
        RuntimeError: In place of autograd's, which names a tensor that the user never made.
    """
    try:
        yield
    except RuntimeError as error:
        if _CHANGED_IN_PLACE not in str(error):
            raise
        msg = (
            "A loss goes backward through parameters that have changed since it was computed: an "
            "optimizer stepped in between, so compute the loss again after that step, or detach "
            "what the stepped network gave (or, if a layer of the model works in place, write it "
            "without)."
        )
        raise RuntimeError(msg) from error
