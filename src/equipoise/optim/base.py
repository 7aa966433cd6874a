"""The life of a step that every multi-term optimizer shares."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeAlias
from weakref import WeakSet

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.distributed import ProcessGroup

from equipoise.autograd.errors import explained, newest
from equipoise.autograd.fabric import permitted
from equipoise.autograd.precision import full_precision
from equipoise.losses import (
    Graphless,
    Losses,
    LossNames,
    Terms,
    loss_names,
    names_brought,
    read_losses,
)
from equipoise.optim.averaging import check_alike
from equipoise.optim.grad import fire, hooked
from equipoise.optim.guards import Finiteness, refuse_inference
from equipoise.optim.hyperparameters import Nonfinite, named_parameters
from equipoise.optim.layout import BucketT, Layout
from equipoise.optim.loading import check_saved
from equipoise.optim.per_loss import Passes, Sources
from equipoise.optim.recording import Recorded
from equipoise.optim.sharded import PerParameter
from equipoise.optim.step import Decisions, Step
from equipoise.optim.under_way import UnderWay
from equipoise.parallel.processes import Processes
from equipoise.parts.checks import check_choice
from equipoise.parts.notices import tell_graphless
from equipoise.words import unknown_name

Params: TypeAlias = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]


class MultiTermOptimizer(Recorded, Generic[BucketT]):
    """An optimizer that takes the gradient of each loss and makes one update from all of them.

    Call :meth:`backward` in place of ``loss.backward()``, then :meth:`step`. Schedulers,
    ``GradScaler``, parameter groups, hooks and state dictionaries work as for
    :class:`torch.optim.Adam`.

    A subclass says what a bucket holds (`_bucket`), how the gradients of a step are folded into it
    (`_start`), and what its parameter groups may be (`_check_group`).

    Args:
        params: Params, ``(name, parameter)`` pairs, or parameter groups.
        defaults: The hyperparameters of a parameter group.
        packed: Whether small parameters may share memory.
        losses: Names of the losses or how many there are; default what the first step brings.
        nonfinite: ``"skip"`` or ``"raise"``.
        graphless: ``"absent"`` or ``"raise"``.
        on_device: Take every decision on the device; default no on the CPU, yes elsewhere.
        process_group: The processes over which losses and gradients are averaged.

    Raises:
        ValueError: If a hyperparameter is out of range.
    """

    _state_names: ClassVar[frozenset[str]]
    """What the state of a parameter holds at least."""

    def __init__(
        self,
        params: Params,
        defaults: dict[str, Any],
        *,
        packed: bool,
        losses: LossNames | None,
        nonfinite: Nonfinite,
        graphless: Graphless,
        on_device: bool | None,
        process_group: ProcessGroup | None,
    ) -> None:
        check_choice("nonfinite", nonfinite, ("skip", "raise"))
        check_choice("graphless", graphless, ("absent", "raise"))
        self._graphless = graphless
        self._told: set[str] = set()  # which losses had no graph
        self._packed = packed
        self._finiteness = Finiteness(nonfinite, on_device)
        self._processes = Processes(process_group)
        super().__init__(params, defaults | {"losses": None, "steps": 0})
        self._begin()
        if losses is not None:
            self._fix_names(loss_names(losses))

    @abstractmethod
    def _bucket(self) -> Callable[..., BucketT]:
        """What makes a bucket."""

    @abstractmethod
    def _start(
        self, reached: set[Tensor], parameters: list[Tensor], decisions: Decisions
    ) -> Step[BucketT]:
        """Begins a step that reaches some of the parameters."""

    @abstractmethod
    def _check_group(self, group: dict[str, Any]) -> None:
        """Raises a ``ValueError`` that names the first hyperparameter out of range."""

    def _begin(self) -> None:
        """Forgets the step under way and where the state lies; the state itself stays."""
        self._layout = Layout(self._bucket(), self.state, packed=self._packed)
        _ALIVE.add(self)
        self._sources = Sources(self._processes, self._gradients)
        self._newest = 0  # see `newest`, of the last step
        self._now: UnderWay[Step[BucketT]] = UnderWay()
        self._begin_record()
        self._clear()

    def _clear(self) -> None:
        """Forgets the step under way."""
        self._now.forget()
        self._finiteness.forget()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a parameter group, checked as the constructor checks.

        Args:
            param_group: ``params`` and the hyperparameters that differ from the defaults.

        Raises:
            ValueError: If a hyperparameter is out of range, or names are missing.
        """
        super().add_param_group(param_group)
        # A configuration's own kind of list would not be loaded with `weights_only=True`.
        param_group["betas"] = tuple(param_group["betas"])
        try:
            self._check_group(param_group)
        except ValueError:
            self.param_groups.pop()
            raise

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

    @permitted()
    @full_precision()
    def backward(
        self, losses: Losses, *, retain_graph: bool = False, scaler: GradScaler | None = None
    ) -> None:
        """Computes the gradient of each loss and folds it in; in place of ``loss.backward()``.

        The class says what ``.grad`` of its parameters holds afterwards; what was there before is
        replaced. Other leaves that the losses reach, trained by another optimizer or by none, get
        what ``sum(losses).backward()`` would add to their ``.grad``; a loss that rests, and a step
        that is skipped, adds nothing there. What another `MTAdam` or `AutoBalance` has written and
        not stepped yet is left alone.

        Hooks: ``Tensor.register_hook`` sees the gradient of each loss, before it is balanced, as in
        ``T`` backward passes. ``register_post_accumulate_grad_hook`` is called once in a step, when
        ``.grad`` holds what the class says. Gradients are laid out as their parameters are.

        A pass that fails, out of memory or in a hook, raises its error and leaves all state as it
        was, and micro-batches that were added up are discarded; the next ``backward`` begins anew.
        Gradients wait for that until all passes are through, if those of all losses take at most 64
        MiB together. Beyond, a warning tells that moments have moved, as memory would be needed
        for all of them twice; with a ``GradScaler`` they move in ``step`` alone.

        Autocast and inference mode are switched off inside; ``torch.no_grad()`` changes nothing.

        Args:
            losses: By name, in order, or a ``[T]`` tensor.
            retain_graph: Keep the graph, which the last loss otherwise frees.
            scaler: Scales the losses; then call ``scaler.step(optimizer)`` and
                ``scaler.update()``. If it finds an overflow, no state has moved.

        Raises:
            TypeError: If a loss is not a floating-point tensor.
            ValueError: If a loss is not a scalar, has no graph or an unknown name, the count is
                wrong, or with ``nonfinite="raise"`` a loss or its gradient is not finite.
            RuntimeError: If the last ``backward`` still waits for its step, a parameter has sparse
                gradients, or a loss was computed under ``torch.inference_mode()``.
        """
        self._refuse_second_backward()
        scaler = scaler if scaler is not None and scaler.is_enabled() else None
        terms = self._read(losses)
        finite = self._finiteness.of_losses(terms)
        values, constants = self._added_up(terms), self._now.constants
        parameters = self._trainable()
        if scaler is None and finite is False:
            self._skip(parameters)
            self._note(values, constants)
            return
        if not self._now.accumulating:
            self._opens(terms)
        passed, self._newest = self._newest, newest(terms)
        try:
            passes = Passes(
                terms,
                parameters,
                self._now.others,
                self._sources,
                scaler,
                retain_graph=retain_graph,
            )
            with explained(terms, passed):
                if self._now.accumulating:
                    self._now.accumulated.update(passes.each(self._now.accumulated))
                    return
                keep = finite if scaler is None and isinstance(finite, Tensor) else None
                self._take(passes, parameters, keep)
        except BaseException:  # the next backward begins anew
            self._clear()
            raise
        self._note(values, constants)

    @torch.enable_grad()  # a tensor of losses is taken apart
    def _read(self, losses: Losses) -> Terms:
        """The losses of the step, on which all processes agree."""
        refuse_inference(losses)
        self._refuse_unknown(losses)
        names = self.names or names_brought(losses)
        terms = read_losses(losses, names, graphless=self._graphless)
        tell_graphless(terms, self._told)
        if self.names is None:
            check_alike(terms.names, self._processes)
            self._fix_names(terms.names)
        terms = self._processes.agree(terms)
        self._sources.refuse_absent(terms)
        return terms

    def _added_up(self, terms: Terms) -> dict[int, Tensor]:
        """The values of the losses, those of earlier micro-batches added."""
        for i, value in zip(terms.present, terms.values(), strict=True):
            self._now.values[i] = self._now.values[i] + value if i in self._now.values else value
        self._now.constants.update(terms.constants)
        return self._now.values

    def _note(self, values: Mapping[int, Tensor], constants: Mapping[int, Tensor]) -> None:
        """Leaves the record of a step; micro-batches before its last leave none."""
        if not self._now.accumulating:
            measured = self._now.step.measured if self._now.step is not None else ()
            self._closes(values, measured, constants)

    def _refuse_unknown(self, losses: Losses) -> None:
        names = self.names
        if names is None or not isinstance(losses, Mapping):
            return
        unknown = [name for name in losses if name not in names]
        if unknown:
            msg = (
                f"{unknown_name('losses', unknown[0], names)} If it is a loss that starts late, "
                f"build the optimizer with `losses={[*names, *unknown]!r}`: its state starts with "
                "it."
            )
            raise ValueError(msg)

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
        before, self._now.accumulating = self._now.accumulating, True
        try:
            yield
        finally:
            self._now.accumulating = before

    def step(  # type: ignore[override]
        self, closure: Callable[[], Losses] | None = None
    ) -> Losses | None:
        """Applies the gradients of the last :meth:`backward`.

        Args:
            closure: Computes and returns the losses; ``backward`` is called on them, unless the
                closure did so itself. One that returns ``None`` and finds nothing, as Lightning
                passes in manual optimization, leaves what the last ``backward`` found.

        Returns:
            What the closure returned.

        Raises:
            RuntimeError: If there are gradients, but none from ``backward``; or the closure returns
                no losses, and none went backward before.
        """
        losses = None if closure is None else self._losses_of(closure)
        self._apply()
        return losses

    def _losses_of(self, closure: Callable[[], Losses | None]) -> Losses | None:
        """Calls the closure; what it finds takes the place of a step that waits."""
        waiting, skipping = self._now.step, self._now.skipping
        self._now.step, self._now.skipping, self._now.waiting = None, False, False
        with torch.enable_grad():
            losses = closure()
            found = self._now.step is not None or self._now.skipping
            if losses is not None and not found:
                self.backward(losses)
        if losses is None and not found:
            if waiting is None and not skipping:
                msg = (
                    "The closure returned None, and no `backward` came before; let it return the "
                    "losses, or call `optimizer.backward(losses)` first."
                )
                raise RuntimeError(msg)
            self._now.step, self._now.skipping = waiting, skipping
        return losses

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Resets ``.grad``; gradients that wait for a step or were accumulated are discarded.

        Args:
            set_to_none: Set ``.grad`` to ``None``. Otherwise it is filled with zeros, and the step
                under way stays: MTAdam then moves by its momentum alone, as Adam does.
        """
        super().zero_grad(set_to_none)
        step, skipping = self._now.step, self._now.skipping
        self._clear()
        if not set_to_none:
            self._now.step, self._now.skipping = step, skipping

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what ``state_dict()`` returned; training then continues bit for bit.

        Args:
            state_dict: Of an optimizer with the same losses.

        Raises:
            ValueError: If it was saved for other losses, or by another optimizer.
        """
        check_saved(state_dict, type(self).__name__, self._state_names, self.names)
        super().load_state_dict(state_dict)
        for group in self.param_groups:  # no step was counted before this release
            group.setdefault("steps", 0)
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
        kept = ("_packed", "_finiteness", "_processes", "_graphless", "_told")
        return super().__getstate__() | {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._begin()

    def _refuse_second_backward(self) -> None:
        if self._now.waiting:
            msg = (
                "`backward` was called twice without `step`. To add up micro-batches, wrap all but "
                "the last in `with optimizer.accumulate():`; to discard, call `zero_grad()`."
            )
            raise RuntimeError(msg)

    def _trainable(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def _skip(self, parameters: list[Tensor]) -> None:
        """Ends a step that must not happen; ``.grad`` shows it, as PyTorch's would."""
        if self._now.accumulating:
            return
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, torch.nan)
        fire(hooked(parameters))
        self._finiteness.of_step(happens=False)
        self._clear()
        self._now.skipping = True

    def _gradients(self, loss: Tensor, leaves: list[Tensor], *, retain_graph: bool) -> PerParameter:
        """The gradients of one loss: the one place where they are obtained."""
        found = torch.autograd.grad(loss, leaves, retain_graph=retain_graph, allow_unused=True)
        if any(gradient is not None and gradient.is_sparse for gradient in found):
            self._refuse_sparse(leaves, found)
        return list(found)

    def _refuse_sparse(self, leaves: Sequence[Tensor], found: Sequence[Tensor | None]) -> None:
        own = dict(named_parameters(self.param_groups))
        for leaf, gradient in zip(leaves, found, strict=True):
            if gradient is not None and gradient.is_sparse and leaf in own:
                msg = (
                    f"{type(self).__name__} takes dense gradients, but that of {own[leaf]} is "
                    "sparse; build the embedding with `sparse=False`."
                )
                raise RuntimeError(msg)

    @torch.no_grad()
    def _take(self, passes: Passes, parameters: list[Tensor], keep: Tensor | None) -> None:
        """Folds the losses in one after the other and writes ``.grad``."""
        for parameter in parameters:  # before the new gradients need the memory
            parameter.grad = None
        losses = len({*passes.live, *self._now.accumulated})
        reached, found = passes.step(self._now.accumulated)
        if not reached:
            msg = "No loss reaches a parameter of this optimizer; pass those of the trained model."
            raise ValueError(msg)
        step = self._start(reached, parameters, Decisions(keep, passes.inverse_scale(), losses))
        with step.told_if_moved():
            for i, gradients in found:
                finite = step.take(i, gradients)
                del gradients
                self._finiteness.of_gradient(passes.terms.names[i], finite)
                self._now.others.settle(i, step.takes(i))
            passes.average_beside()
            self._publish(step, parameters)

    def _buckets(self, active: set[Tensor]) -> list[BucketT]:
        on_device = any(map(self._finiteness.on_device, active))
        count = len(self.names or ())
        return self._layout.arrange(self.param_groups, active, count, on_device=on_device)

    def _publish(self, step: Step[BucketT], parameters: list[Tensor]) -> None:
        happens = step.happens
        if happens is False:
            self._skip(parameters)
            return
        self._now.others.leave(_written_elsewhere(self))
        hooks = hooked([*step.parameters, *self._now.others.leaves])
        with step.put_back_by(hooks):
            step.publish()
            self._now.others.publish()
            fire(hooks)
        self._finiteness.of_step(happens)
        self._clear()
        self._now.step = step
        # A GradScaler may decide against the step, so the next backward need not wait for it.
        self._now.waiting = not step.awaits_scaler

    @full_precision()
    @torch.no_grad()
    def _apply(self) -> None:
        step = self._now.step
        given = {p for p in self._trainable() if p.grad is not None}
        if step is None:
            if given and not self._now.skipping:
                self._allocate(given)
            self._clear()
            return
        step.settle()
        step.move(given)
        self._clear()

    def _allocate(self, given: set[Tensor]) -> None:
        """Makes the state of a new optimizer, with the losses that it was built for.

        ``torch.distributed.checkpoint`` asks for it by a step with a learning rate of zero.
        """
        still = all(float(group["lr"]) == 0 for group in self.param_groups)
        if self.state or not still or self.names is None:
            msg = (
                f"`step` needs gradients from `{type(self).__name__}.backward(losses)`: call it in "
                "the place of `loss.backward()`; inside Accelerate, Lightning or Transformers, "
                "call what `equipoise.integrations` has for it. To load a distributed checkpoint "
                "into a new optimizer, build it with `losses=`."
            )
            raise RuntimeError(msg)
        self._buckets(given)


_ALIVE: WeakSet[MultiTermOptimizer[Any]] = WeakSet()


def _written_elsewhere(one: MultiTermOptimizer[Any]) -> set[Tensor]:
    """Parameters whose ``.grad`` another of these optimizers has written and not stepped yet."""
    waiting = [other._now.step for other in _ALIVE if other is not one]
    return {parameter for step in waiting if step is not None for parameter in step.written}
