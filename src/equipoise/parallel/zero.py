"""DeepSpeed's ZeRO, known by the engine whose ``backward`` a step is given.

The engine reduces gradients by hooks of its own, into partitions: at stage 2 each process keeps its
part of the gradients, at stage 3 of the parameters, too. DeepSpeed is never imported; what tells is
the engine's own public method, and at stage 3 the ``ds_id`` that a partitioned parameter carries.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from torch import Tensor

from equipoise.autograd.graph import edges_of, is_leaf
from equipoise.autograd.shared import of_model
from equipoise.autograd.targets import Target

BackwardCall: TypeAlias = Callable[[Tensor], object]

PARTS_OF_GRADIENTS = 2
"""The first stage at which no process keeps the gradient as a whole."""


def stage_of(backward: BackwardCall | None) -> int | None:
    """The stage of ZeRO, 0 to 3, if ``backward`` is that of a DeepSpeed engine.

    Args:
        backward: What a step was given in place of ``Tensor.backward``.
    """
    stage = getattr(getattr(backward, "__self__", None), "zero_optimization_stage", None)
    return int(stage()) if callable(stage) else None


def refuse_partitioned(losses: Sequence[Tensor]) -> None:
    """Refuses to measure gradients in a model that ZeRO 3 has partitioned.

    Args:
        losses: The live scalar losses of one step.

    Raises:
        TypeError: If they reach a parameter of such a model.
    """
    if "deepspeed" in sys.modules and any(hasattr(p, "ds_id") for p in of_model(losses)):
        raise TypeError(_refusal(3))


def _refusal(stage: int | None) -> str:
    return (
        f"ZeRO {stage} of DeepSpeed keeps gradients in parts, so that of a single loss cannot be "
        "measured: shard the model with FSDP2 (`torch.distributed.fsdp.fully_shard`), or stay at "
        'ZeRO 2 or below and watch `wrt="representation"`, or use a `Weighting`, such as '
        "Uncertainty."
    )


@contextmanager
def measuring(backward: BackwardCall | None, watched: Iterable[Target]) -> Iterator[None]:
    """Context of the passes that measure, one for each loss, where DeepSpeed expects a single one.

    Its engine counts on one backward pass for each forward pass, by hooks of the engine's outputs.

    Args:
        backward: What the step was given in place of ``Tensor.backward``.
        watched: What gradients are taken with respect to.

    Yields:
        Nothing.

    Raises:
        TypeError: If parameters are watched whose gradients the engine keeps in parts.
        RuntimeError: In place of what DeepSpeed's hooks raise.
    """
    stage = stage_of(backward)
    if (stage or 0) >= PARTS_OF_GRADIENTS and any(is_leaf(node) for node, _ in edges_of(watched)):
        raise TypeError(_refusal(stage))
    try:
        yield
    except (RuntimeError, IndexError) as error:
        if stage is None:
            raise
        msg = (
            "DeepSpeed stopped a pass that measures the gradient of one loss. Compute the losses "
            "with `engine.module(...)` in place of `engine(...)`, which expects one pass only; "
            "`backward=engine.backward` stays."
        )
        raise RuntimeError(msg) from error
