"""Parameters sharded over processes by FSDP2, ``torch.distributed.fsdp.fully_shard``.

The leaves of a step's graph are whole parameters that exist for a moment. The model and the
optimizer hold shards of them, whose ``.grad`` FSDP's hooks fill with the mean over the processes.
Only an ordinary backward pass fires these hooks, so each loss goes backward on its own and its
gradient is taken from the shards: every process has some of the columns of each gradient. Inner
products summed over the processes are those of the whole gradients.

Nothing public tells which shard stands behind a leaf, so attributes of FSDP's own objects are read.
"""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, cast
from weakref import WeakSet

from torch import Tensor, distributed, nn

from equipoise.autograd.graph import SharingError
from equipoise.autograd.shared import parameters
from equipoise.parallel.dtensor import cut_over

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.fsdp._fully_shard._fsdp_param import FSDPParam
    from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup
    from torch.distributed.tensor import DTensor
    from torch.utils.hooks import RemovableHandle

    from equipoise.autograd.targets import Target, Wrt
    from equipoise.losses import Terms
    from equipoise.parallel.processes import Processes

Shards: TypeAlias = "Mapping[Tensor, DTensor]"
"""The shard behind each leaf."""


class ShardedModules:
    """The parameters that FSDP2 manages, as far as this process trains some.

    The modules that are alive are looked up once.
    """

    def __init__(self) -> None:
        self._modules: WeakSet[FSDPModule] | None = None

    def __getstate__(self) -> dict[str, object]:
        """What is kept belongs to one model, and is neither copied nor pickled."""
        return {"_modules": None}

    def shards(self) -> Shards:
        """The shard behind every leaf that a forward pass has put into a graph."""
        return {
            param._unsharded_param: _shard(param)
            for group in self._groups()
            for param in group.fsdp_params
            if hasattr(param, "_unsharded_param")
        }

    def _groups(self) -> Iterator[FSDPParamGroup]:
        if self._modules is None:
            self._modules = WeakSet(_alive())
        for module in self._modules:
            yield from _groups_of(module)

    def cuts(self, wrt: Wrt | Sequence[Target]) -> bool:
        """Whether each process holds only a part of what is watched.

        Args:
            wrt: As the user gave it, or the targets of a step. Before the first step a name stands
                for every sharded model that is trained.
        """
        if isinstance(wrt, Iterator) or (isinstance(wrt, str) and wrt == "representation"):
            return False
        named = None if isinstance(wrt, str) else _listed(wrt)
        if named is None and any(self._groups()):
            gc.collect()  # a model that was thrown away is not meant
        return any(
            param.sharded_param.requires_grad if named is None else named & _both(param)
            for group in self._groups()
            for param in group.fsdp_params
            if cut_over(_shard(param))
        )

    def in_graph(self, wrt: Wrt) -> Wrt:
        """``wrt`` with each shard replaced by its leaf, as which the graph knows it.

        Args:
            wrt: As the user gave it; the parameters of a module are listed.
        """
        if isinstance(wrt, str) or not (shards := self.shards()):
            return wrt
        leaves: dict[Tensor, Tensor] = {shard: leaf for leaf, shard in shards.items()}
        if isinstance(wrt, nn.Module):
            wrt = [parameter for parameter in wrt.parameters() if parameter.requires_grad]
        if isinstance(wrt, Tensor):
            return leaves.get(wrt, wrt)
        return [leaves.get(tensor, tensor) for tensor in wrt]

    def among(self, targets: Sequence[Target]) -> Shards:
        """The shards behind targets that are leaves; empty if none of them is sharded.

        Args:
            targets: Leaves of the graph.

        Raises:
            SharingError: If some targets are sharded otherwise than others, or not at all.
            RuntimeError: If a backward pass would not fill the shards' gradients.
        """
        shards = self.shards()
        watched = [shards[leaf] for leaf in targets if leaf in shards]  # type: ignore[index]
        if not watched:
            return {}
        if len(watched) < len(targets) or len({_layout(shard) for shard in watched}) > 1:
            msg = (
                "Some of the watched parameters are sharded by `fully_shard` and others are not, "
                "or over other processes, so their gradients cannot be compared. Call "
                "`fully_shard(model)` on the whole model, or name some of its parameters with "
                "`wrt`."
            )
            raise SharingError(msg)
        self._refuse_unreduced(targets)
        return shards

    def _refuse_unreduced(self, targets: Sequence[Target]) -> None:
        watched = set(targets)
        for group in self._groups():
            if not any(watched & _both(param) for param in group.fsdp_params):
                continue
            pending = any(p.unsharded_accumulated_grad is not None for p in group.fsdp_params)
            if pending or not group.reduce_grads:
                msg = (
                    "`set_requires_gradient_sync(False)` keeps gradients from the shards, so that "
                    "they cannot be measured. Leave it on, and pass all micro-batches but the last "
                    "under `balancer.frozen()`."
                )
                raise RuntimeError(msg)

    def reached_by(self, losses: Sequence[Tensor]) -> bool:
        """Whether the losses reach a sharded parameter; it reads the graph.

        Args:
            losses: The live scalars of a step.
        """
        shards = self.shards()
        return bool(shards) and any(leaf in shards for leaf in parameters(losses).everything)

    def refuse_uneven(self, terms: Terms, processes: Processes) -> None:
        """Refuses a step in which only some processes would enter FSDP's communication.

        Args:
            terms: The losses of the step, as agreed upon.
            processes: Those of the run.

        Raises:
            SharingError: If the processes reach different parameters, which would wait for ever.
        """
        if terms.everywhere or not self.reached_by(terms.tensors):
            return
        leaves = parameters(terms.tensors).everything
        if not processes.alike((len(leaves), sum(math.prod(leaf.shape) for leaf in leaves))):
            msg = ABSENT.format("and they reach different parameters")
            raise SharingError(msg)

    def refuse_absent(self, terms: Terms) -> None:
        """Refuses to measure a loss that some process does not have.

        Args:
            terms: The losses of the step, as agreed upon.

        Raises:
            SharingError: If the model is sharded and a loss absent on some process.
        """
        if not terms.everywhere and self.reached_by(terms.tensors):
            msg = ABSENT.format("so its gradient cannot be measured")
            raise SharingError(msg)


def is_flat(leaf: Tensor) -> bool:
    """Whether a leaf is a parameter of the older `FullyShardedDataParallel`, which is many in one.

    It reduces their gradients itself; ``_is_flat_param`` is how torch 2.13 tells them.
    """
    return getattr(leaf, "_is_flat_param", False)


def refuse_flat(leaves: Iterable[Tensor]) -> None:
    """Refuses to measure gradients of a model in the older `FullyShardedDataParallel`.

    Args:
        leaves: Of a step's graph.

    Raises:
        TypeError: If one of them is a parameter of such a model.
    """
    if any(map(is_flat, leaves)):
        msg = (
            "The gradient of a single loss cannot be measured in a model in "
            "`FullyShardedDataParallel`, which fuses parameters and frees them. Shard it with "
            "`torch.distributed.fsdp.fully_shard`, or use a `Weighting`, such as Uncertainty."
        )
        raise TypeError(msg)


ABSENT = (
    "Some process lacks a loss that others have, {}; all processes of a model in `fully_shard` go "
    "backward together. Give the loss as zero there, for example `0 * prediction.sum()`."
)


def _alive() -> Iterator[FSDPModule]:
    """The modules that FSDP2 manages. Importing it takes a second: who uses it has done so."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None or not distributed.is_initialized():
        return
    for thing in gc.get_objects():
        if fsdp.FSDPModule in type(thing).__mro__:
            yield thing


def _groups_of(module: FSDPModule) -> list[FSDPParamGroup]:
    """The groups of parameters that one call of `fully_shard` made."""
    state = module._get_fsdp_state()
    if hasattr(state, "_fsdp_param_groups"):
        return state._fsdp_param_groups
    # Older releases make one group, or none for a module without parameters of its own.
    return [group for group in (state._fsdp_param_group,) if group is not None]


@contextmanager
def exchanged(flowing: Sequence[tuple[Target, Tensor]]) -> Iterator[None]:
    """Has backward passes inside the ``with`` block go on from each target with another gradient.

    FSDP's hooks need a pass that starts at the losses, so what flows is exchanged on the way.

    Args:
        flowing: Targets, tensors or edges of the graph, each with its gradient.
    """
    handles = [_exchange(target, gradient) for target, gradient in flowing]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _exchange(target: Target, gradient: Tensor) -> RemovableHandle:
    """Has the next backward pass go on from a target with this gradient."""
    if isinstance(target, Tensor):
        handle: RemovableHandle = target.register_hook(lambda _: gradient)
        return handle
    place = target.output_nr

    def exchanged(flowing: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*flowing[:place], gradient, *flowing[place + 1 :])

    return target.node.register_prehook(exchanged)


def _listed(wrt: nn.Module | Tensor | Iterable[Target]) -> set[Target]:
    if isinstance(wrt, nn.Module):
        return set(wrt.parameters())
    return {wrt} if isinstance(wrt, Tensor) else set(wrt)


def _shard(param: FSDPParam) -> DTensor:
    return cast("DTensor", param.sharded_param)


def _both(param: FSDPParam) -> set[object]:
    """The two tensors as which a module shows one parameter."""
    return {param.sharded_param, getattr(param, "_unsharded_param", None)}


def _layout(shard: DTensor) -> tuple[object, ...]:
    return (shard.device_mesh, *(placement.is_shard() for placement in shard.placements))
