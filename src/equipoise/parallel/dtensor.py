"""What is known of DTensors: tensors of which each process holds a part.

``torch.distributed.tensor`` is imported where a DTensor is made and nowhere else: that takes a
second, and who has DTensors has paid it already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor, Placement


def is_dtensor(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether each process holds a part of a tensor."""
    return hasattr(tensor, "to_local")


def held(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if is_dtensor(tensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """The same, detached, in the same memory."""
    return held(tensor.detach())


def like(part: Tensor, whole: Tensor) -> Tensor:
    """This process's part of what belongs to a tensor, as a DTensor if the tensor is one.

    Args:
        part: In the shape of what this process holds of ``whole``, with further dimensions before
            it, if any.
        whole: To which it belongs.
    """
    if not is_dtensor(whole):
        return part
    from torch.distributed.tensor import DTensor  # noqa: PLC0415 (see the module)

    lead = part.shape[: part.dim() - whole.dim()]
    return DTensor.from_local(
        part,
        whole.device_mesh,
        [_moved(placement, len(lead)) for placement in whole.placements],
        run_check=False,
        shape=torch.Size((*lead, *whole.shape)),
        stride=(*(whole.numel() for _ in lead), *whole.stride()),
    )


def _moved(placement: Placement, by: int) -> Placement:
    from torch.distributed.tensor import Shard  # noqa: PLC0415 (see the module)

    return Shard(placement.dim + by) if by and isinstance(placement, Shard) else placement


def cut_over(tensor: Tensor) -> list[distributed.ProcessGroup]:
    """One group of processes for each dimension of the mesh along which a tensor is cut."""
    if not is_dtensor(tensor):
        return []
    mesh = tensor.device_mesh
    return [
        mesh.get_group(dimension)
        for dimension, placement in enumerate(tensor.placements)
        if placement.is_shard() and mesh.size(dimension) > 1
    ]
