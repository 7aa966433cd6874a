"""`diagnose`: a whole diagnosis in one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

import torch
from torch import nn

from equipoise.autograd.inputs import Trained
from equipoise.autograd.targets import Wrt
from equipoise.losses import Losses, LossNames, names_brought
from equipoise.monitor.diagnosis import Diagnosis
from equipoise.monitor.diagnosis_verdict import Thresholds
from equipoise.monitor.progress import shown
from equipoise.words import brief

Sample = TypeVar("Sample")


def diagnose(
    losses_of: Callable[[Sample], Losses],
    batches: Iterable[Sample],
    names: LossNames | None = None,
    *,
    count: int = 20,
    wrt: Wrt = "shared",
    scale: float = Thresholds.scale,
    conflict: float = Thresholds.conflict,
    noise: float = Thresholds.noise,
    confidence: float = Thresholds.confidence,
    trained: Trained | None = None,
    process_group: torch.distributed.ProcessGroup | None = None,
    progress: bool = True,
) -> Diagnosis:
    """Observes some batches: `Diagnosis` in one call.

    Args:
        losses_of: Gives the losses of a batch, with their graph.
        batches: For example a data loader; what is left of it is not touched.
        names: Of the losses; default those of the first batch.
        count: How many batches are observed, if there are so many.
        wrt: See `Diagnosis`, as for all that follows.
        scale: From which ratio of gradient norms on losses differ in scale.
        conflict: From which cosine down gradients conflict.
        noise: How large the noise of the mean gradient may be against its signal, both squared.
        confidence: Of all intervals.
        trained: What is trained, if not all that losses share.
        process_group: The processes of a data-parallel run.
        progress: Whether a bar is shown in a terminal, where rich or tqdm is installed.

    Returns:
        The diagnosis, to print.

    Raises:
        TypeError: If ``losses_of`` does not take a batch as its one argument.
        ValueError: If ``count`` is below 1, there is no batch, or for the reasons of `Diagnosis`
            and `Diagnosis.observe`.

    Example:
        >>> model = torch.nn.Linear(3, 2)
        >>> def losses_of(x):
        ...     near, far = (model(x) - 100).square().mean(dim=0)
        ...     return {"near": near, "far": far}
        >>> print(diagnose(losses_of, [torch.rand(8, 3) + 1 for _ in range(10)]).verdict)
        fine
    """
    if count < 1:
        msg = f"`count` is {count}; at least one batch has to be observed, 10 to 20 are good."
        raise ValueError(msg)
    diagnosis: Diagnosis | None = None
    for batch in shown(islice(batches, count), count if progress else 0, "diagnosing"):
        if diagnosis is None:
            _check_call(losses_of, batch)
        losses = losses_of(batch)
        if diagnosis is None:
            named = names_brought(losses) if names is None else names
            diagnosis = Diagnosis(
                named,
                wrt,
                scale=scale,
                conflict=conflict,
                noise=noise,
                confidence=confidence,
                trained=trained,
                process_group=process_group,
            )
        diagnosis.observe(losses)
    if diagnosis is None:
        msg = "`batches` gave no batch; pass a loader, or a list of at least 10 batches."
        raise ValueError(msg)
    return diagnosis


def _check_call(losses_of: Callable[[Sample], Losses], batch: Sample) -> None:
    """Refuses a model that wants a batch taken apart, in words that say what to write."""
    called = losses_of.forward if isinstance(losses_of, nn.Module) else losses_of
    try:
        inspect.signature(called).bind(batch)
    except ValueError:  # some functions in C tell nothing of what they take
        return
    except TypeError as error:
        msg = (
            f"`losses_of` is called with one argument, the batch, and {brief(losses_of)} takes "
            f"others ({error}). Write, for example, "
            "`diagnose(lambda batch: model(*batch), loader)`."
        )
        raise TypeError(msg) from None
