"""What autograd would do to ``.grad`` besides: leaves that are not the optimizer's, and hooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from equipoise.optim.bucket import as_real
from equipoise.parallel.dtensor import is_dtensor, like
from equipoise.parallel.processes import Processes


class Others:
    """Leaves that the losses reach, but that another optimizer trains, or none at all.

    They get what ``sum(losses).backward()`` would add to their ``.grad``. Their gradients come from
    the passes that the losses take anyway, and are added up while a step is in the making.
    """

    def __init__(self) -> None:
        self._of_loss: dict[int, dict[Tensor, Tensor]] = {}
        self._sums: dict[Tensor, Tensor] = {}

    def add(self, loss: int, leaves: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
        """Adds the gradients of one loss, which may yet have to rest.

        Args:
            loss: Its position.
            leaves: The leaves.
            gradients: One for each, ``None`` where the loss does not reach it.
        """
        if leaves:
            _add_to(self._of_loss.setdefault(loss, {}), zip(leaves, gradients, strict=True))

    def settle(self, loss: int, taken: bool | Tensor) -> None:
        """Makes the gradients of one loss part of the sum.

        Args:
            loss: Its position.
            taken: Whether the loss is part of the step; a boolean scalar where decisions stay on
                the device.
        """
        found = self._of_loss.pop(loss, {})
        if taken is False:
            return
        if isinstance(taken, Tensor):
            found = {leaf: g.masked_fill(~taken.to(g.device), 0.0) for leaf, g in found.items()}
        _add_to(self._sums, found.items())

    def average(self, leaves: Sequence[Tensor], processes: Processes) -> None:
        """Averages the sums over processes; one that does not reach a leaf counts as zero.

        Args:
            leaves: Those to be averaged, the same on every process.
            processes: Those of the run.
        """
        if processes.count == 1 or not leaves:
            return
        here = [leaf in self._sums for leaf in leaves]
        anywhere = torch.tensor(here, dtype=torch.int32, device=leaves[0].device)
        processes.sum([anywhere])
        reached = [leaf for leaf, count in zip(leaves, anywhere.tolist(), strict=True) if count]
        for leaf in reached:
            self._sums[leaf] = _own_copy(leaf, self._sums.get(leaf))
        processes.average([as_real(self._sums[leaf]) for leaf in reached])

    def leave(self, leaves: Iterable[Tensor]) -> None:
        """Leaves the ``.grad`` of some leaves alone.

        Args:
            leaves: Any.
        """
        for leaf in leaves:
            self._sums.pop(leaf, None)

    @property
    def leaves(self) -> list[Tensor]:
        """Those that `publish` will write to."""
        return list(self._sums)

    def publish(self) -> None:
        """Adds the sums to ``.grad``, as a backward pass would.

        By hand: hooks of a data-parallel wrapper wait for all of its parameters, of which the
        optimizer's own are not written by autograd.
        """
        for leaf, total in self._sums.items():
            if leaf.grad is None:
                leaf.grad = total if total.is_sparse else _own_copy(leaf, total)
            elif leaf.grad.is_sparse:
                leaf.grad = total + leaf.grad
            else:
                leaf.grad.add_(_shown(leaf, total))


def _add_to(sums: dict[Tensor, Tensor], found: Iterable[tuple[Tensor, Tensor | None]]) -> None:
    # Not in place: autograd may have given the same memory to several leaves.
    for leaf, gradient in found:
        if gradient is not None:
            sums[leaf] = sums[leaf] + gradient if leaf in sums else gradient


def _shown(leaf: Tensor, total: Tensor) -> Tensor:
    return like(total, leaf) if is_dtensor(leaf) and not is_dtensor(total) else total


def _own_copy(leaf: Tensor, total: Tensor | None) -> Tensor:
    """A gradient in memory of its own, laid out as the leaf is."""
    own = torch.zeros_like(leaf, memory_format=torch.preserve_format).detach()
    return own if total is None else own.copy_(_shown(leaf, total))


def hooked(leaves: Iterable[Tensor]) -> list[Tensor]:
    """The leaves on which ``register_post_accumulate_grad_hook`` was called."""
    # `_post_accumulate_grad_hooks` is where torch 2.13 keeps them; nothing public tells.
    return [leaf for leaf in leaves if getattr(leaf, "_post_accumulate_grad_hooks", None)]


def fire(leaves: Iterable[Tensor]) -> None:
    """Calls the hooks of leaves whose ``.grad`` has been written, in the order of their making."""
    for leaf in leaves:
        for hook in tuple(leaf._post_accumulate_grad_hooks.values()):
            hook(leaf)
