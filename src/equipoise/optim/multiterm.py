"""The life of a step that every multi-term optimizer shares."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeAlias

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.distributed import ProcessGroup
from torch.optim import Optimizer

from equipoise.autograd.errors import explained
from equipoise.autograd.fabric import permitted
from equipoise.autograd.shared import is_compiled
from equipoise.losses import Losses, LossNames, Terms, loss_names, read_losses
from equipoise.optim.averaging import averaged, check_alike, reach
from equipoise.optim.finiteness import Finiteness
from equipoise.optim.fold import BucketT, Decisions, Fold
from equipoise.optim.hyperparameters import Nonfinite, check_choice
from equipoise.optim.layout import Layout
from equipoise.optim.loading import check_saved
from equipoise.optim.passes import Gradients, inverse_scale, passes, reached_by, scaled
from equipoise.optim.shards import gradients_of_shards
from equipoise.parallel.dtensor import is_dtensor
from equipoise.parallel.fsdp import ShardedModules, Shards
from equipoise.parallel.processes import Processes

Parameters: TypeAlias = "Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]"


class MultiTermOptimizer(Optimizer, Generic[BucketT]):
    """An optimizer that takes the gradient of each loss and makes one update from all of them.

    Call :meth:`backward` in place of ``loss.backward()``, then :meth:`step`. Schedulers,
    ``GradScaler``, parameter groups, hooks and state dictionaries work as for
    :class:`torch.optim.Adam`.

    A subclass says what a bucket holds (`_bucket`), how the gradients of a step are folded into it
    (`_start`), and what its parameter groups may be (`_check_group`).

    Args:
        params: Parameters, ``(name, parameter)`` pairs, or parameter groups.
        defaults: The hyperparameters of a parameter group.
        packed: Whether small parameters may share memory.
        losses: Names of the losses or how many there are; default what the first step brings.
        nonfinite: ``"skip"`` or ``"raise"``.
        on_device: Take every decision on the device; default no on the CPU, yes elsewhere.
        process_group: The processes over which losses and gradients are averaged.

    Raises:
        ValueError: If a hyperparameter is out of range.
    """

    _state_names: ClassVar[frozenset[str]]
    """What the state of a parameter holds at least."""

    def __init__(
        self,
        params: Parameters,
        defaults: dict[str, Any],
        *,
        packed: bool,
        losses: LossNames | None,
        nonfinite: Nonfinite,
        on_device: bool | None,
        process_group: ProcessGroup | None,
    ) -> None:
        check_choice("nonfinite", nonfinite, ("skip", "raise"))
        self._packed = packed
        self._finiteness = Finiteness(nonfinite, on_device)
        self._processes = Processes(process_group)
        super().__init__(params, defaults | {"losses": None})
        self._begin()
        if losses is not None:
            self._fix_names(loss_names(losses))

    @abstractmethod
    def _bucket(self) -> Callable[..., BucketT]:
        """What makes a bucket."""

    @abstractmethod
    def _start(
        self, reached: set[Tensor], parameters: list[Tensor], decisions: Decisions
    ) -> Fold[BucketT]:
        """Begins a step that reaches some of the parameters."""

    @abstractmethod
    def _check_group(self, group: dict[str, Any]) -> None:
        """Raises a ``ValueError`` that names the first hyperparameter out of range."""

    def _begin(self) -> None:
        """Forgets the step under way and where the state lies; the state itself stays."""
        self._layout = Layout(self._bucket(), self.state, packed=self._packed)
        self._compiled: dict[tuple[int, ...], bool] = {}
        self._sharded = ShardedModules()
        self._accumulating = False
        self._clear()

    def _clear(self) -> None:
        """Forgets the step under way."""
        self._fold: Fold[BucketT] | None = None
        self._skipping = False  # The next step has nothing to apply, and that is right.
        self._waiting = False  # The next backward would lose what the last one found.
        self._accumulated: dict[int, Gradients] = {}
        self._finiteness.forget()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a parameter group, checked as the constructor checks.

        Args:
            param_group: ``params`` and the hyperparameters that differ from the defaults.

        Raises:
            ValueError: If a hyperparameter is out of range, or names are missing.
        """
        super().add_param_group(param_group)
        try:
            self._check_group(param_group)
        except ValueError:
            self.param_groups.pop()
            raise

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the losses; ``None`` while neither given nor seen."""
        names = self.param_groups[0]["losses"]
        return None if names is None else tuple(names)

    @property
    def skipped(self) -> int:
        """How many steps were skipped for a loss that was not finite; reading it synchronises."""
        return int(self._finiteness.skipped)

    @property
    def rested(self) -> dict[str, int]:
        """For each loss, how often its gradient was not finite; reading it synchronises."""
        counts = self._finiteness.rested
        return {name: int(counts.get(name, 0)) for name in self.names or ()}

    def _fix_names(self, names: tuple[str, ...]) -> None:
        # Beside the hyperparameters they are saved and loaded with the state.
        for holder in (self.defaults, *self.param_groups):
            holder["losses"] = list(names)

    @explained()
    def backward(
        self, losses: Losses, *, retain_graph: bool = False, scaler: GradScaler | None = None
    ) -> None:
        """Computes the gradient of each loss and folds it in; in place of ``loss.backward()``.

        The class says what ``.grad`` holds afterwards; what was there before is replaced.

        Args:
            losses: By name, in order, or a ``[T]`` tensor.
            retain_graph: Keep the graph, which the last loss otherwise frees.
            scaler: Scales the losses; then call ``scaler.step(optimizer)`` and
                ``scaler.update()``. If it finds an overflow, no state has moved.

        Raises:
            TypeError: If a loss is not a floating-point tensor.
            ValueError: If a loss is not a scalar, has no graph or an unknown name, the count is
                wrong, or with ``nonfinite="raise"`` a loss or its gradient is not finite.
            RuntimeError: If the last ``backward`` still waits for its step.
        """
        self._refuse_second_backward()
        scaler = scaler if scaler is not None and scaler.is_enabled() else None
        terms = self._read(losses)
        finite = self._finiteness.of_losses(terms)
        parameters = self._trainable()
        if scaler is None and finite is False:
            self._skip(parameters)
            return
        last = terms.present[terms.here[-1]]
        retain_graph = retain_graph or self._gives_buffers_away(terms)

        def compute(i: int, loss: Tensor | None) -> Gradients:
            if loss is None:
                return [None] * len(parameters)
            retain = retain_graph or i != last
            return self._gradients(scaled(scaler, loss), parameters, retain_graph=retain)

        if self._accumulating:
            self._accumulated.update(passes(terms, self._accumulated, compute))
            return
        keep = finite if scaler is None and isinstance(finite, Tensor) else None
        unscale = None if scaler is None else inverse_scale(scaler, terms.tensors[0])
        self._take(terms, parameters, compute, Decisions(keep, unscale))

    def _read(self, losses: Losses) -> Terms:
        """The losses of the step, on which all processes agree."""
        terms = read_losses(losses, self.names or _names_from(losses))
        if self.names is None:
            check_alike(terms.names, self._processes)
            self._fix_names(terms.names)
        terms = self._processes.agree(terms)
        if any(map(is_dtensor, self._trainable())):
            self._sharded.refuse_absent(terms)
        return terms

    def _gives_buffers_away(self, terms: Terms) -> bool:
        """Whether a pass that does not keep the graph would end all later ones that do.

        A compiled function whose first pass does not keep the graph gives its buffers away for
        good, and a loss that starts later needs them twice.
        """
        if len(terms.names) > 1 and terms.present not in self._compiled:
            self._compiled[terms.present] = is_compiled(terms.tensors)
        return self._compiled.get(terms.present, False)

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        """Context in which :meth:`backward` only adds up gradients, loss by loss.

        Wrap all but the last micro-batch; the last ``backward``, outside, takes the sums. Divide
        the losses by the number of micro-batches, as with ``loss.backward()``. If a loss of any of
        them is not finite, the whole step is skipped.

        Yields:
            Nothing.

        Example:
            >>> from equipoise import MTAdam
            >>> weight = torch.ones(2, requires_grad=True)
            >>> optimizer = MTAdam([weight])
            >>> with optimizer.accumulate():
            ...     optimizer.backward([weight.sum() / 2, weight.square().sum() / 2])
            >>> optimizer.backward([weight.sum() / 2, weight.square().sum() / 2])
            >>> optimizer.step()
        """
        before, self._accumulating = self._accumulating, True
        try:
            yield
        finally:
            self._accumulating = before

    def step(  # type: ignore[override]
        self, closure: Callable[[], Losses] | None = None
    ) -> Losses | None:
        """Applies the gradients of the last :meth:`backward`.

        Args:
            closure: Computes and returns the losses; ``backward`` is called on them, unless the
                closure did so itself.

        Returns:
            What the closure returned.

        Raises:
            RuntimeError: If there are gradients, but none from ``backward``.
        """
        losses = None
        if closure is not None:
            self._clear()
            with torch.enable_grad():
                losses = closure()
                if self._fold is None and not self._skipping:
                    self.backward(losses)
        self._apply()
        return losses

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Resets ``.grad``; gradients that wait for a step or were accumulated are discarded.

        Args:
            set_to_none: Set ``.grad`` to ``None``. Otherwise it is filled with zeros, and the step
                under way stays: MTAdam then moves by its momentum alone, as Adam does.
        """
        super().zero_grad(set_to_none)
        fold, skipping = self._fold, self._skipping
        self._clear()
        if not set_to_none:
            self._fold, self._skipping = fold, skipping

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what ``state_dict()`` returned; training then continues bit for bit.

        Args:
            state_dict: Of an optimizer with the same losses.

        Raises:
            ValueError: If it was saved for other losses, or by another optimizer.
        """
        check_saved(state_dict, type(self).__name__, self._state_names, self.names)
        super().load_state_dict(state_dict)
        given = [k for group in state_dict["param_groups"] for k in group["params"]]
        own = [p for group in self.param_groups for p in group["params"]]
        for key, parameter in zip(given, own, strict=True):
            if key in state_dict["state"]:
                self._restore(self.state[parameter], state_dict["state"][key])
        # What was loaded may still belong to another optimizer; buckets copy it.
        self._buckets({parameter for parameter in own if parameter in self.state})

    def _restore(self, state: dict[str, Tensor], saved: Mapping[str, Tensor]) -> None:
        """Puts back what torch cast to the parameter's dtype in loading."""

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_packed", "_finiteness", "_processes")
        return super().__getstate__() | {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._begin()

    def _refuse_second_backward(self) -> None:
        if self._waiting:
            msg = (
                "`backward` was called twice without `step`. To add up micro-batches, wrap all but "
                "the last in `with optimizer.accumulate():`; to discard, call `zero_grad()`."
            )
            raise RuntimeError(msg)

    def _trainable(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def _skip(self, parameters: list[Tensor]) -> None:
        """Ends a step that must not happen; ``.grad`` shows it, as PyTorch's would."""
        if self._accumulating:
            return
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, torch.nan)
        self._finiteness.of_step(happens=False)
        self._clear()
        self._skipping = True

    @permitted()
    def _gradients(
        self, loss: Tensor, parameters: list[Tensor], *, retain_graph: bool
    ) -> Gradients:
        """The gradients of one loss: the one place where they are obtained."""
        shards = self._shards(parameters)
        if shards:
            return gradients_of_shards(loss, parameters, shards, retain_graph=retain_graph)
        found = torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True)
        if any(gradient is not None and gradient.is_sparse for gradient in found):
            msg = (
                f"{type(self).__name__} takes dense gradients; "
                "build the embedding with `sparse=False`."
            )
            raise RuntimeError(msg)
        return list(found)

    def _shards(self, parameters: list[Tensor]) -> Shards:
        """The shard behind each leaf of the graph; empty if no parameter is known to be one."""
        if not any(map(is_dtensor, parameters)):
            return {}
        own = set(parameters)
        return {leaf: shard for leaf, shard in self._sharded.shards().items() if shard in own}

    @torch.no_grad()
    def _take(
        self,
        terms: Terms,
        parameters: list[Tensor],
        compute: Callable[[int, Tensor | None], Gradients],
        decisions: Decisions,
    ) -> None:
        """Folds the losses in one after the other and writes ``.grad``."""
        for parameter in parameters:  # before the new gradients need the memory
            parameter.grad = None
        shards = self._shards(parameters)
        anywhere = reach(terms, self._accumulated, parameters, self._processes, shards)
        found = passes(terms, self._accumulated, compute)
        if anywhere:
            found = averaged(found, anywhere, parameters, self._processes)
        fold = None
        for i, gradients in found:
            if fold is None:
                reached = self._reached(terms, i, gradients, parameters, anywhere)
                fold = self._start(reached, parameters, decisions)
            self._note(terms.names[i], fold.take(i, gradients))
            del gradients
        if fold is not None:
            self._publish(fold, parameters)

    def _reached(
        self,
        terms: Terms,
        loss: int,
        gradients: Gradients,
        parameters: list[Tensor],
        anywhere: Mapping[int, Sequence[bool]],
    ) -> set[Tensor]:
        """The parameters that some loss of the step reaches, given the first loss's gradients."""
        pending = [t for i, t in zip(terms.present, terms.places, strict=True) if i != loss]
        known: list[Sequence[Tensor | bool | None]] = [gradients, *anywhere.values()]
        known.extend(self._accumulated.values())
        return reached_by(parameters, known, () if anywhere else pending)

    def _buckets(self, active: set[Tensor]) -> list[BucketT]:
        on_device = any(map(self._finiteness.on_device, active))
        count = len(self.names or ())
        return self._layout.arrange(self.param_groups, active, count, on_device=on_device)

    def _note(self, name: str, finite: bool | Tensor) -> None:
        try:
            self._finiteness.of_gradient(name, finite)
        except ValueError:
            self._clear()
            raise

    def _publish(self, fold: Fold[BucketT], parameters: list[Tensor]) -> None:
        happens = fold.happens
        if happens is False:
            self._skip(parameters)
            return
        self._finiteness.of_step(happens)
        fold.publish()
        self._clear()
        self._fold = fold
        # A GradScaler may decide against the step, so the next backward need not wait for it.
        self._waiting = not fold.awaits_scaler

    @torch.no_grad()
    def _apply(self) -> None:
        fold = self._fold
        given = {p for p in self._trainable() if p.grad is not None}
        if fold is None:
            if given and not self._skipping:
                self._allocate(given)
            self._clear()
            return
        fold.settle()
        fold.move(given)
        self._clear()

    def _allocate(self, given: set[Tensor]) -> None:
        """Makes the state of a new optimizer, with the losses that it was built for.

        ``torch.distributed.checkpoint`` asks for it by a step with a learning rate of zero.
        """
        still = all(float(group["lr"]) == 0 for group in self.param_groups)
        if self.state or not still or self.names is None:
            msg = (
                "`step` needs gradients from `optimizer.backward(losses)`; call that first. To "
                "load a distributed checkpoint into a new optimizer, build it with `losses=`."
            )
            raise RuntimeError(msg)
        self._buckets(given)


def _names_from(losses: Losses) -> tuple[str, ...]:
    """The names that the first step brings; for a sequence or a tensor, numbers."""
    if isinstance(losses, Mapping):
        return loss_names(losses)
    return loss_names(len(losses) if isinstance(losses, Sequence) else losses.numel())
