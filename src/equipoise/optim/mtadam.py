"""MTAdam: Adam for several losses, whose gradients it balances tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.distributed import ProcessGroup
from torch.optim import Optimizer

from equipoise.distributed import Processes
from equipoise.explaining import explained
from equipoise.losses import Losses, LossNames, Terms, loss_names, read_losses
from equipoise.optim.averaging import averaged, check_alike, reach
from equipoise.optim.bucket import Bucket
from equipoise.optim.fold import Fold
from equipoise.optim.hyperparameters import (
    Granularity,
    Nonfinite,
    Ranks,
    check_choice,
    check_group,
    rank_of_each,
)
from equipoise.optim.layout import Layout
from equipoise.optim.passes import Gradients, inverse_scale, passes, scaled, with_gradient
from equipoise.permitting import permitted
from equipoise.sharing import parameters as leaves_of

Parameters: TypeAlias = "Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]"


class MTAdam(Optimizer):
    r"""Adam for several losses: balances their gradients, then takes one Adam step with all.

    For each parameter :math:`\theta` and loss :math:`i`, in order, with :math:`g_i` its gradient:

    .. math::
        N_i &= \beta_3 N_i + (1 - \beta_3) \lVert g_i \rVert, \qquad
        b_i = \rho_i \frac{N_a}{N_i} g_i \\
        m &= \beta_1 m + (1 - \beta_1) \sum_i b_i, \qquad
        v_i = \beta_2 v_i + (1 - \beta_2) b_i^2 \\
        \theta &= \theta - \frac{\eta}{1 - \beta_1^t}
        \frac{m}{\sqrt{\max_i v_i} / \sqrt{1 - \beta_2^t} + \epsilon}

    :math:`N_i` starts at the first :math:`\lVert g_i \rVert`. The anchor :math:`a` is the first
    loss up to :math:`i` with :math:`N_a > 10^{-10}`; a loss below that is not scaled and its rank
    :math:`\rho_i` is not used. With one loss this is :class:`torch.optim.Adam`.

    Call :meth:`backward` in place of ``loss.backward()``, then :meth:`step`. Schedulers,
    ``GradScaler``, parameter groups, hooks and state dictionaries work as for Adam.

    Where a loss does not reach a parameter that another loss of the step reaches, its gradient
    there is zero: its norm and its second moment decay. A parameter that no loss reaches rests, as
    Adam lets it. A loss that a batch does not have (absent from a mapping, or ``None``) rests as
    well: its norm and second moment stay, and still serve as anchor and in the maximum. It adds
    nothing to the first moment, which all losses share and which decays as ever.

    A step with a loss that is NaN or infinite is skipped whole and counted in :attr:`skipped`.
    A finite loss whose gradient is not finite rests in that step, as an absent one does, and is
    counted in :attr:`rested`. On the CPU both are seen before anything is computed from them; on
    other devices they are masked there, and no step waits for the device.

    Data-parallel training, with or without ``DistributedDataParallel``: the gradient of each loss
    is averaged over the processes before anything is computed from it, so a step sends ``T``
    gradients instead of one. A loss that one process lacks counts as zero there. Micro-batches
    inside :meth:`accumulate` send nothing but ``2 T`` numbers.

    Memory: ``T + 1`` tensors of state per parameter (one more with ``amsgrad``); in ``backward``
    one gradient is alive at a time beside the sum in ``.grad``. With a ``GradScaler`` or
    :meth:`accumulate` it holds one gradient per loss until the step.

    Args:
        params: Parameters, ``(name, parameter)`` pairs, or parameter groups.
        lr: Learning rate :math:`\eta`, a number or a scalar tensor.
        betas: Decay rates of the first moment, the second moments and the norms.
        eps: Added to the denominator.
        weight_decay: L2 penalty; it enters once for each loss of the step.
        amsgrad: Divide by the largest second moment so far.
        ranks: How large each loss's gradient is to be, relative to the anchor's: a mapping by
            name or a sequence in order; default ones.
        decoupled_weight_decay: Shrink the parameters by ``lr * weight_decay`` once a step, as
            AdamW does, instead of the penalty.
        maximize: Ascend.
        granularity: What one norm is taken over: each ``"tensor"`` (the published code), each
            ``"layer"`` (the paper; parameters whose names agree up to the last dot), each
            parameter ``"group"``, or ``"all"``.
        foreach: Whether parameters below 65536 elements share memory, so that a step handles many
            of them at once; default yes, except for tensor subclasses and complex parameters.
        losses: Names of the losses or how many there are; default what the first step brings.
        nonfinite: ``"skip"``, or ``"raise"`` a ``ValueError`` that names the loss.
        on_device: Take every decision on the device, without waiting for it; default no on the
            CPU, yes elsewhere.
        process_group: The processes over which losses and gradients are averaged in data-parallel
            training; ``None`` is the default group, if ``torch.distributed`` is on.

    Raises:
        ValueError: If a hyperparameter is out of range, or ``granularity="layer"`` has no names.

    Example:
        >>> model = torch.nn.Linear(2, 2)
        >>> optimizer = MTAdam(model.named_parameters(), lr=1e-2)
        >>> a, b = model(torch.ones(3, 2)).square().mean(dim=0)
        >>> optimizer.backward({"a": a, "b": 1000 * b})
        >>> optimizer.step()

    Source: Malkiel and Wolf, "MTAdam: Automatic Balancing of Multiple Training Loss Terms", 2020,
    arXiv 2006.14683, Algorithm 1, and the authors' code.

    Differs from the paper in: one norm per tensor by default, as in the authors' code. Differs from
    the authors' code in: one first moment for all losses (their sum, equal up to rounding); a loss
    that does not reach a parameter gives it a zero gradient instead of ending the loop over the
    parameters; left-over ``.grad`` is not added to the first loss; norms are part of the state.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        ranks: Ranks | None = None,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        granularity: Granularity = "tensor",
        foreach: bool | None = None,
        losses: LossNames | None = None,
        nonfinite: Nonfinite = "skip",
        on_device: bool | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        check_choice("granularity", granularity, ("tensor", "layer", "group", "all"))
        check_choice("nonfinite", nonfinite, ("skip", "raise"))
        self._granularity = granularity
        self._nonfinite = nonfinite
        self._ranks = ranks
        self._packed = foreach is not False
        self._on_device = on_device
        self._processes = Processes(process_group)
        self._skipped: int | Tensor = 0
        self._rested: dict[str, int | Tensor] = {}
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "losses": None,
        }
        super().__init__(params, defaults)
        self._begin()
        if losses is not None:
            self._fix_names(loss_names(losses))

    def _begin(self) -> None:
        """Forgets the step under way and where the state lies; the state itself stays."""
        self._checked_ranks: tuple[tuple[str, ...], list[float]] | None = None
        self._layout = Layout(self.state, self._granularity, packed=self._packed)
        self._accumulating = False
        self._clear()

    def _clear(self) -> None:
        """Forgets the step under way."""
        self._fold: Fold | None = None
        self._skipping = False  # The next step has nothing to apply, and that is right.
        self._waiting = False  # The next backward would lose what the last one found.
        self._accumulated: dict[int, Gradients] = {}
        self._finite: bool | Tensor = True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a parameter group, checked as the constructor checks.

        Args:
            param_group: ``params`` and the hyperparameters that differ from the defaults.

        Raises:
            ValueError: If a hyperparameter is out of range, or names are missing.
        """
        super().add_param_group(param_group)
        try:
            check_group(param_group, self._granularity)
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
        return int(self._skipped)

    @property
    def rested(self) -> dict[str, int]:
        """For each loss, how often its gradient was not finite; reading it synchronises."""
        return {name: int(self._rested.get(name, 0)) for name in self.names or ()}

    def _fix_names(self, names: tuple[str, ...]) -> None:
        self._rank_of_each(names)
        # Beside the hyperparameters they are saved and loaded with the state.
        for holder in (self.defaults, *self.param_groups):
            holder["losses"] = list(names)

    def _rank_of_each(self, names: tuple[str, ...]) -> list[float]:
        if self._checked_ranks is None or self._checked_ranks[0] != names:
            self._checked_ranks = names, rank_of_each(self._ranks, names)
        return self._checked_ranks[1]

    @explained()
    def backward(
        self, losses: Losses, *, retain_graph: bool = False, scaler: GradScaler | None = None
    ) -> None:
        """Computes the gradient of each loss and balances them; in place of ``loss.backward()``.

        ``.grad`` afterwards is the sum of the balanced gradients, for monitoring and clipping; what
        was there before is replaced. :meth:`step` takes its first moment from ``.grad``, so
        clipping scales what this step adds to it. The second moments have by then taken in the
        balanced gradients as they were.

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
        terms = read_losses(losses, self.names or _names_from(losses))
        if self.names is None:
            check_alike(terms.names, self._processes)
            self._fix_names(terms.names)
        terms = self._processes.agree(terms)
        finite = self._all_finite(terms)
        parameters = self._trainable()
        if scaler is None and finite is False:
            self._skip(parameters)
            return

        last = terms.present[terms.here[-1]]

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
        self._take(terms, parameters, compute, keep, unscale)

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        """Context in which :meth:`backward` only adds up gradients, loss by loss.

        Wrap all but the last micro-batch; the last ``backward``, outside, balances the sums.
        Divide the losses by the number of micro-batches, as with ``loss.backward()``. If a loss of
        any of them is not finite, the whole step is skipped.

        Yields:
            Nothing.

        Example:
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
            set_to_none: Set ``.grad`` to ``None``. Otherwise it is filled with zeros, and a step
                that follows moves by the momentum alone, as Adam's does.
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
        if "losses" not in state_dict["param_groups"][0]:
            msg = "The state was not saved by MTAdam, so it has no norms and no moment per loss."
            raise ValueError(msg)
        saved = state_dict["param_groups"][0]["losses"]
        if saved is not None and self.names not in (None, tuple(saved)):
            msg = (
                f"The state was saved for the losses {', '.join(saved)}, but this optimizer has "
                f"{', '.join(self.names or ())}; build it with `losses={saved!r}`."
            )
            raise ValueError(msg)
        super().load_state_dict(state_dict)
        given = [k for group in state_dict["param_groups"] for k in group["params"]]
        own = [p for group in self.param_groups for p in group["params"]]
        for key, parameter in zip(given, own, strict=True):
            if key in state_dict["state"]:
                # Torch casts what it loads to the parameter's dtype; norms keep their own.
                norms = state_dict["state"][key]["norms"]
                self.state[parameter]["norms"] = norms.to(parameter.device)
        # What was loaded may still belong to another optimizer; buckets copy it.
        self._buckets({parameter for parameter in own if parameter in self.state})

    def __getstate__(self) -> dict[str, Any]:
        kept = ("granularity", "nonfinite", "ranks", "packed", "on_device", "processes")
        kept += ("skipped", "rested")
        return super().__getstate__() | {f"_{name}": getattr(self, f"_{name}") for name in kept}

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

    def _decides_on_device(self, tensor: Tensor) -> bool:
        return tensor.device.type != "cpu" if self._on_device is None else self._on_device

    def _all_finite(self, terms: Terms) -> bool | Tensor:
        """Whether these and the accumulated losses are finite: known, or a scalar on the device."""
        finite = torch.isfinite(terms.values())
        if self._nonfinite == "raise":
            for name, fine in zip(terms.present_names, finite.tolist(), strict=True):
                _check_finite(f"Loss {name!r}", fine=fine)
        if self._decides_on_device(finite):
            self._finite = finite.all() & self._finite
        else:
            self._finite = bool(finite.all()) and bool(self._finite)
        return self._finite

    def _skip(self, parameters: list[Tensor]) -> None:
        """Ends a step that must not happen; ``.grad`` shows it, as PyTorch's would."""
        if self._accumulating:
            return
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, torch.nan)
        self._skipped += 1
        self._clear()
        self._skipping = True

    @permitted()
    def _gradients(
        self, loss: Tensor, parameters: list[Tensor], *, retain_graph: bool
    ) -> Gradients:
        """The gradients of one loss: the one place where they are obtained."""
        found = torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True)
        if any(gradient is not None and gradient.is_sparse for gradient in found):
            msg = "MTAdam takes dense gradients; build the embedding with `sparse=False`."
            raise RuntimeError(msg)
        return list(found)

    @torch.no_grad()
    def _take(
        self,
        terms: Terms,
        parameters: list[Tensor],
        compute: Callable[[int, Tensor | None], Gradients],
        keep: Tensor | None,
        unscale: Tensor | None,
    ) -> None:
        """Folds the losses in one after the other and writes ``.grad``."""
        ranks = self._rank_of_each(terms.names)
        for parameter in parameters:  # before the new gradients need the memory
            parameter.grad = None
        single = len({*terms.present, *self._accumulated}) == 1
        anywhere = reach(terms, self._accumulated, parameters, self._processes)
        found = passes(terms, self._accumulated, compute)
        if anywhere:
            found = averaged(found, anywhere, parameters, self._processes)
        fold, expected = None, 0
        for i, gradients in found:
            if fold is None:
                active = self._reached(terms, parameters, gradients, anywhere, single=single)
                buckets = self._buckets(active)
                units = self._layout.units(self.param_groups, buckets)
                fold = Fold(buckets, parameters, units=units, keep=keep, unscale=unscale)
            for absent in range(expected, i):
                fold.rest(absent)
            self._note(terms.names[i], fold.take(i, ranks[i], gradients))
            expected = i + 1
            del gradients
        if fold is not None:
            self._publish(fold, parameters)

    def _reached(
        self,
        terms: Terms,
        parameters: list[Tensor],
        first: Gradients,
        anywhere: dict[int, list[bool]],
        *,
        single: bool,
    ) -> set[Tensor]:
        """The parameters that some loss of the step reaches, known from the first gradients on."""
        reached = with_gradient(parameters, first)
        for of_loss in anywhere.values():
            reached.update(p for p, there in zip(parameters, of_loss, strict=True) if there)
        if len(reached) < len(parameters) and not single and not anywhere:
            for gradients in self._accumulated.values():
                reached |= with_gradient(parameters, gradients)
            reached.update(leaves_of(terms.tensors).everything)
        active = reached.intersection(parameters)
        if not active:
            msg = "No loss reaches a parameter of this optimizer; pass those of the trained model."
            raise ValueError(msg)
        return active

    def _buckets(self, active: set[Tensor]) -> list[Bucket]:
        on_device = any(map(self._decides_on_device, active))
        count = len(self.names or ())
        return self._layout.arrange(self.param_groups, active, count, on_device=on_device)

    def _note(self, name: str, finite: bool | Tensor) -> None:
        """Counts a gradient that was not finite."""
        if self._nonfinite == "raise" and not finite:
            self._clear()
            _check_finite(f"The gradient of loss {name!r}", fine=False)
        if finite is not True:
            missing = ~finite if isinstance(finite, Tensor) else 1
            self._rested[name] = self._rested.get(name, 0) + missing

    def _publish(self, fold: Fold, parameters: list[Tensor]) -> None:
        happens = fold.happens
        if happens is False:
            self._skip(parameters)
            return
        if isinstance(happens, Tensor):
            self._skipped = self._skipped + ~happens
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
                msg = "`step` needs gradients from `optimizer.backward(losses)`; call that first."
                raise RuntimeError(msg)
            self._clear()
            return
        fold.settle()
        folded = {parameter for bucket in fold.buckets for parameter in bucket.parameters}
        fold.move(fold.buckets if folded <= given else self._buckets(folded & given))
        self._clear()


def _names_from(losses: Losses) -> tuple[str, ...]:
    """The names that the first step brings; for a sequence or a tensor, numbers."""
    if isinstance(losses, Mapping):
        return loss_names(losses)
    return loss_names(len(losses) if isinstance(losses, Sequence) else losses.numel())


def _check_finite(what: str, *, fine: bool) -> None:
    if not fine:
        msg = (
            f"{what} is NaN or infinite. Look at its inputs and the learning rate; "
            "`nonfinite='skip'` leaves such steps out."
        )
        raise ValueError(msg)
