"""Parameters replicated by `DistributedDataParallel`, and what its reducer expects of a step.

DDP's hooks hang on the accumulation of gradients, so whatever `.grad` receives through autograd is
reduced, measuring passes are not. Two things go by other ways. In the first iteration of a static
graph the hooks only count, and a node above the model's outputs has everything reduced at the end
of the pass that goes through it, be that a measuring one. And `Join` answers the messages of DDP
for a process that has run out of batches, but those of nobody else.

Private attributes read here, as of torch 2.13: ``_static_graph_delay_allreduce_enqueued``,
``reducer._delay_all_reduce`` and ``_join_config``.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakSet

from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from equipoise.autograd.shared import leaves_below
from equipoise.autograd.targets import Target


class ReplicatedModules:
    """The models in `DistributedDataParallel`, as far as this process trains some.

    Its hooks cannot be seen on a parameter, so the wrappers that are alive are looked up, and again
    when a parameter turns up that was not asked for before.
    """

    def __init__(self) -> None:
        self._modules: WeakSet[DistributedDataParallel] | None = None
        self._hooked: dict[Tensor, bool] = {}

    def __getstate__(self) -> dict[str, object]:
        """What is kept belongs to one model, and is neither copied nor pickled."""
        return {"_modules": None, "_hooked": {}}

    def hooked(self, leaves: Sequence[Tensor]) -> set[Tensor]:
        """The leaves of which DDP reduces what their `.grad` receives."""
        asked = [leaf for leaf in leaves if isinstance(leaf, nn.Parameter)]
        if any(leaf not in self._hooked for leaf in asked):
            self._modules = None
            wrapped = dict.fromkeys(self._parameters(), True)
            self._hooked |= dict.fromkeys(asked, False) | wrapped
        return {leaf for leaf in asked if self._hooked[leaf]}

    def in_order(self) -> list[Tensor]:
        """The parameters of all models, in an order that is the same on every process.

        Models of the same shapes cannot be told apart between processes, and are left out.
        """
        models = [tuple(module.parameters()) for module in self._alive()]
        shapes = [[tuple(parameter.shape) for parameter in model] for model in models]
        alone = [(s, model) for s, model in zip(shapes, models, strict=True) if shapes.count(s) < 2]
        return [p for _, model in sorted(alone, key=lambda pair: pair[0]) for p in model]

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Keeps passes inside the ``with`` block from ending the first iteration of a static graph.

        They fire no hook, so everything would be taken for unused, and reduced before it is there.

        Raises:
            RuntimeError: If that iteration is under ``no_sync()``, which PyTorch cannot do either.
        """
        fresh = self._before_first_reduction()
        _refuse_unsynchronised(fresh)
        for module in fresh:
            module._static_graph_delay_allreduce_enqueued = True
        try:
            yield
        finally:
            for module in fresh:
                module._static_graph_delay_allreduce_enqueued = False

    @contextmanager
    def writing(self, roots: Sequence[Target]) -> Iterator[None]:
        """Ends the first iteration of a static graph after passes that wrote `.grad`.

        A pass from the losses does so itself, one from where gradients are known does not.

        Args:
            roots: Where the passes inside the ``with`` block start.
        """
        fresh = self._before_first_reduction()
        yield
        for module in fresh:
            left = not module._static_graph_delay_allreduce_enqueued
            if left and not set(leaves_below(roots)).isdisjoint(module.parameters()):
                module.reducer._delay_all_reduce()  # type: ignore[attr-defined]  # not in the stubs
                module._static_graph_delay_allreduce_enqueued = True

    def refuse_uneven(self) -> None:
        """Refuses messages that a process which has run out of batches would not answer.

        Raises:
            RuntimeError: Inside ``Join``, unless it ends with the first process that has no batch.
        """
        for module in self._alive():
            joined = module._join_config
            if joined.enable and not joined.throw_on_early_termination:
                msg = (
                    "Inside `Join` a process without batches answers the messages of "
                    "DistributedDataParallel alone, and a balancer sends its own. Give every "
                    "process as many batches (`drop_last=True`), or write "
                    "`Join(..., throw_on_early_termination=True)`."
                )
                raise RuntimeError(msg)

    def _before_first_reduction(self) -> list[DistributedDataParallel]:
        return [
            module
            for module in self._alive()
            if module.static_graph and not module._static_graph_delay_allreduce_enqueued
        ]

    def _alive(self) -> WeakSet[DistributedDataParallel]:
        if not distributed.is_available() or not distributed.is_initialized():
            return WeakSet()
        if self._modules is None:
            # `issubclass` asks an abstract class, which takes ten times as long.
            alive = (t for t in gc.get_objects() if DistributedDataParallel in type(t).__mro__)
            self._modules = WeakSet(alive)
        return self._modules

    def _parameters(self) -> Iterator[Tensor]:
        for module in self._alive():
            yield from module.parameters()


def _refuse_unsynchronised(modules: Sequence[DistributedDataParallel]) -> None:
    if not all(module.require_backward_grad_sync for module in modules):
        msg = (
            "`DistributedDataParallel(..., static_graph=True)` learns its graph in the first "
            "iteration, which therefore cannot be under `no_sync()`. Let the first micro-batch of "
            "the training synchronise, or leave `static_graph=True` out."
        )
        raise RuntimeError(msg)
