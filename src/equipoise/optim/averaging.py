"""The gradient of each loss as a mean over the processes of a data-parallel run."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from equipoise.autograd.shared import leaves_below
from equipoise.optim.bucket import as_real
from equipoise.optim.sharded import PerParameter, refuse_tensor_parallel
from equipoise.parallel.dtensor import is_dtensor
from equipoise.parallel.fsdp import Shards
from equipoise.parallel.processes import Processes


def check_alike(names: tuple[str, ...], processes: Processes) -> None:
    """Raises a ``ValueError`` if the first step brings other losses on another process."""
    if not processes.alike((len(names), zlib.crc32("\n".join(names).encode()))):
        msg = (
            f"This process has the losses {', '.join(names)} in the first step, another process "
            "has others. Build the optimizer with `losses=` and all of their names."
        )
        raise ValueError(msg)


def reach(
    live: Mapping[int, Tensor | None],
    accumulated: Mapping[int, PerParameter],
    parameters: Sequence[Tensor],
    processes: Processes,
    shards: Shards,
) -> dict[int, list[bool]]:
    """Which parameters each loss reaches on some process, now or in an earlier micro-batch.

    Autograd tells only what a loss reaches here. The processes must agree on what they average.

    Args:
        live: The losses of the step by position, agreed upon; ``None`` where another process has
            one.
        accumulated: The gradients of earlier micro-batches.
        parameters: Those of the optimizer.
        processes: Those of the run.
        shards: The shard behind each leaf of the graph; empty if no parameter is sharded.

    Returns:
        For the position of each loss, one truth value for each parameter; the same on every
        process.
    """
    losses = sorted({*live, *accumulated})
    here = [_reached(live.get(i), accumulated.get(i), parameters, shards) for i in losses]
    anywhere = torch.tensor(here, dtype=torch.int32, device=parameters[0].device)
    processes.sum([anywhere])
    return dict(zip(losses, (anywhere > 0).tolist(), strict=True))


def _reached(
    loss: Tensor | None,
    accumulated: PerParameter | None,
    parameters: Sequence[Tensor],
    shards: Shards,
) -> list[bool]:
    leaves = [] if loss is None else leaves_below([loss])
    reached = {shards.get(leaf, leaf): leaf for leaf in leaves}
    refuse_tensor_parallel(reached[p] for p in parameters if p in reached)
    earlier = [False] * len(parameters)
    if accumulated is not None:
        earlier = [gradient is not None for gradient in accumulated]
    return [p in reached or before for p, before in zip(parameters, earlier, strict=True)]


def averaged(
    found: Iterator[tuple[int, PerParameter]],
    reached: Mapping[int, Sequence[bool]],
    parameters: Sequence[Tensor],
    processes: Processes,
) -> Iterator[tuple[int, PerParameter]]:
    """Averages the gradients of each loss; a process that lacks one counts as zero.

    Those of shards are left as they are: FSDP has averaged them.

    Args:
        found: The losses' positions, the same on every process, with this process's gradients.
        reached: What `reach` returned.
        parameters: To which the gradients belong.
        processes: Those of the run.

    Yields:
        The same with the mean gradients, ``None`` where a loss reaches a parameter nowhere.
    """
    wholes = [(place, p) for place, p in enumerate(parameters) if not is_dtensor(p)]
    for i, gradients in found:
        for place, parameter in wholes:
            anywhere = reached[i][place]
            gradients[place] = _own_copy(gradients[place], parameter) if anywhere else None
        present = [gradients[place] for place, _ in wholes]
        processes.average([as_real(gradient) for gradient in present if gradient is not None])
        del present
        yield i, gradients
        del gradients  # Only one is alive at a time.


def _own_copy(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    # Autograd may have given the same memory to several parameters, or expanded a scalar.
    zeros = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    return zeros.detach() if gradient is None else zeros.detach().copy_(gradient)
