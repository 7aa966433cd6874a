"""PyTorch's errors about a graph that cannot go backward, said in the words of several losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.autograd.graph import Node

from equipoise.autograd.compiled import SETTING
from equipoise.autograd.graph import LEAF, children_first
from equipoise.losses import Terms

_CHANGED_IN_PLACE = "modified by an inplace operation"
_FREED = "backward through the graph a second time"
_DONATED = "donated buffers"


@contextmanager
def explained(terms: Terms, passed: int = 0) -> Iterator[None]:
    """Names the cause where autograd names a tensor, or a buffer, that the user never made.

    Args:
        terms: The losses of the step.
        passed: See `newest`, of the losses of the step before.

    Raises:
        RuntimeError: In place of autograd's, where parameters were stepped between a loss and its
            backward pass, a compiled function cannot be passed more than once, or a loss goes
            through a graph that is freed.
    """
    try:
        yield
    except RuntimeError as error:
        freed = _FREED in str(error)
        msg = _of_freed(terms, passed) if freed else _explanation(str(error))
        if msg is None:
            raise
        raise RuntimeError(msg) from error


def newest(terms: Terms) -> int:
    """The number of the newest operation of a step: later ones belong to steps that come after.

    Args:
        terms: The losses of the step.
    """
    nodes = (loss.grad_fn for loss in terms.tensors)
    return max((node._sequence_nr() for node in nodes if node is not None), default=0)


def _of_freed(terms: Terms, passed: int) -> str | None:
    """Which losses go through a graph that an earlier pass has freed.

    The pass that failed may have freed graphs as well, those of losses that are as they should be.
    So losses made of operations from before this step come first.
    """
    names = [terms.present_names[place] for place in terms.here]
    losses = list(zip(names, terms.tensors, strict=True))
    guilty = [name for name, loss in losses if _goes_through_freed(loss, passed)]
    guilty = guilty or [name for name, loss in losses if _goes_through_freed(loss, LEAF)]
    if not guilty:
        return None
    return (
        f"{', '.join(map(repr, guilty))} of the losses goes backward a second time through a graph "
        "that an earlier backward pass has freed. Compute anew in each step what it is made of, or "
        "detach what comes from an earlier one (a residual, a prediction or a hidden state that "
        "was kept). If the other pass belongs to the same step, give that one `retain_graph=True`."
    )


def _goes_through_freed(loss: Tensor, before: int) -> bool:
    """Whether a loss is made of an operation not newer than that, whose data is gone."""
    roots = [] if loss.grad_fn is None else [loss.grad_fn]
    return any(node._sequence_nr() <= before and _is_freed(node) for node in children_first(roots))


def _is_freed(node: Node) -> bool:
    """Whether what an operation saved is gone; read raw, or hooks would run (a checkpoint's)."""
    saved = [name for name in dir(node) if name.startswith("_raw_saved_")]
    try:
        kept = [getattr(node, name) for name in saved]
    except RuntimeError:  # so answer operations that saved several
        return True
    alone = [one for one in kept if not isinstance(one, tuple)]
    # Before torch 2.13 nothing tells it, and the error stays as autograd says it.
    return bool(alone) and all(getattr(one, "data", one) is None for one in alone)


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
            f"measuring the gradients of several losses passes it several times. {SETTING}"
        )
    return None
