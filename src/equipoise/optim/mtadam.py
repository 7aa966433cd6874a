"""MTAdam: Adam for several losses, whose gradients it balances tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor
from torch.distributed import ProcessGroup

from equipoise.losses import Graphless, LossNames
from equipoise.optim.balance import BalancedStep, Units
from equipoise.optim.base import MultiTermOptimizer, Params
from equipoise.optim.compiled import Compiler
from equipoise.optim.hyperparameters import (
    Granularity,
    Nonfinite,
    Ranks,
    check_group,
    check_named,
    rank_of_each,
)
from equipoise.optim.mtadam_state import MTAdamBucket
from equipoise.optim.mtadam_update import bucket_of
from equipoise.optim.step import Decisions
from equipoise.parts.checks import check_choice
from equipoise.parts.told import understands


class MTAdam(MultiTermOptimizer[MTAdamBucket]):
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
    ``GradScaler``, parameter groups, hooks and state dictionaries work as for Adam. After
    ``backward``, ``.grad`` is the sum of the balanced gradients, for monitoring and clipping.
    ``step`` takes its first moment from ``.grad``, so clipping scales what this step adds to it;
    the second moments have by then taken in the balanced gradients as they were.

    Where a loss does not reach a parameter that another loss of the step reaches, its gradient
    there is zero: its norm and its second moment decay. A parameter that no loss reaches rests, as
    Adam lets it. A loss that a batch does not have (absent from a mapping, or ``None``) rests as
    well: its norm and second moment stay, and still serve as anchor and in the maximum. It adds
    nothing to the first moment, which all losses share and which decays as ever.

    A wholly compiled model gives zero gradients where an eager one gives none, so there the heads
    of absent losses decay instead of resting, as with Adam; compile the trunk alone to avoid it.

    A step with a loss that is NaN or infinite is skipped whole and counted in :attr:`skipped`.
    A finite loss whose gradient is not finite rests in that step, as an absent one does, and is
    counted in :attr:`rested`. On the CPU both are seen before anything is computed from them; on
    other devices they are masked there, and no step waits for the device.

    Data-parallel training, with or without ``DistributedDataParallel``: the gradient of each loss
    is averaged over the processes before anything is computed from it, so a step sends ``T``
    gradients instead of one. A loss that one process lacks counts as zero there. Micro-batches
    inside :meth:`accumulate` send nothing but ``2 T`` numbers.

    FSDP2: parameters that ``fully_shard`` has cut are taken as they are, and so is the state, which
    ``torch.distributed.checkpoint`` saves and loads on another number of processes; for that build
    the optimizer with ``losses``. Each loss goes backward through FSDP's hooks, so all processes
    must have the same losses; one number a parameter and loss is sent to make whole norms.

    Memory: ``T + 1`` tensors of state per parameter (one more with ``amsgrad``); in ``backward``
    one gradient is alive at a time beside the sum in ``.grad``. With a ``GradScaler`` or
    :meth:`accumulate` it holds one gradient per loss until the step.

    Args:
        params: Params, ``(name, parameter)`` pairs, or parameter groups.
        lr: Learning rate :math:`\eta`, a number or a scalar tensor.
        betas: Decay rates of the first moment, the second moments and the norms; default the
            paper's. Second moments at 0.9 were better on digits, and worse on three tasks
            (`mtadam-beta2-*` in ``docs/evidence``).
        eps: Added to the denominator.
        weight_decay: L2 penalty on the parameters; it enters once for each loss of the step.
        amsgrad: Divide by the largest second moment so far.
        ranks: How large each loss's gradient is to be, relative to the anchor's: a mapping by
            name or a sequence in order; default ones.
        decoupled_weight_decay: Shrink the parameters by ``lr * weight_decay`` once a step, as
            AdamW does, instead of the penalty.
        maximize: Go up the gradients of the losses, not down.
        granularity: What one norm is taken over: each ``"tensor"`` (the published code), each
            ``"layer"`` (the paper; parameters whose names agree up to the last dot), each
            parameter ``"group"``, or ``"all"``.
        foreach: Whether parameters below 65536 elements share memory, so that a step handles many
            of them at once; default yes, except for tensor subclasses and complex parameters.
        fused: Whether the arithmetic on parameters of at least 262144 elements is compiled by
            ``torch.compile``, so that a step reads and writes everything once. Default: yes on a
            GPU that Triton writes code for (uncompiled, with a warning, should that fail); no on
            the CPU, where the first step waits some seconds for a C++ compiler and later ones are
            faster.
        losses: Names of the losses or how many there are; default what the first step brings.
        nonfinite: ``"skip"``, or ``"raise"`` a ``ValueError`` that names the loss.
        graphless: What a loss that is a number, or has no graph in this step, becomes: ``"absent"``
            with one warning, or with ``"raise"`` an error that names it.
        on_device: Take every decision on the device, without waiting for it; default no on the
            CPU, yes elsewhere.
        process_group: The processes over which losses and gradients are averaged in data-parallel
            training; ``None`` is the default group, if ``torch.distributed`` is on.

    Raises:
        ValueError: If a hyperparameter is out of range, or ``granularity="layer"`` has no names.

    Example:
        >>> import torch
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

    _state_names: ClassVar[frozenset[str]] = frozenset({"norms", "exp_avg", "exp_avg_sqs"})

    @understands
    def __init__(
        self,
        params: Params,
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
        fused: bool | None = None,
        losses: LossNames | None = None,
        nonfinite: Nonfinite = "skip",
        graphless: Graphless = "absent",
        on_device: bool | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        check_choice("granularity", granularity, ("tensor", "layer", "group", "all"))
        self._granularity = granularity
        self._ranks = ranks
        self._fused = fused
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(
            params,
            defaults,
            packed=foreach is not False,
            losses=losses,
            nonfinite=nonfinite,
            graphless=graphless,
            on_device=on_device,
            process_group=process_group,
        )

    def _begin(self) -> None:
        self._checked_ranks: tuple[tuple[str, ...], list[float]] | None = None
        self._units = Units(self._granularity)
        super()._begin()

    def _bucket(self) -> Callable[..., MTAdamBucket]:
        return partial(bucket_of, packed=self._packed, compiler=Compiler(self._fused))

    def _check_group(self, group: dict[str, Any]) -> None:
        check_group(group, (0.9, 0.999, 0.9))
        check_named(group, self._granularity)

    def _fix_names(self, names: tuple[str, ...]) -> None:
        self._rank_of_each(names)
        super()._fix_names(names)

    def _rank_of_each(self, names: tuple[str, ...]) -> list[float]:
        if self._checked_ranks is None or self._checked_ranks[0] != names:
            self._checked_ranks = names, rank_of_each(self._ranks, names)
        return self._checked_ranks[1]

    def _start(
        self, reached: set[Tensor], parameters: list[Tensor], decisions: Decisions
    ) -> BalancedStep:
        buckets = self._buckets(reached)
        housed = [parameter for bucket in buckets for parameter in bucket.parameters]
        return BalancedStep(
            buckets,
            self._buckets,
            parameters,
            decisions,
            ranks=self._rank_of_each(self.names or ()),
            units=self._units.numbers(self.param_groups, housed, buckets[0].norms),
        )

    def _restore(self, state: dict[str, Tensor], saved: Mapping[str, Tensor]) -> None:
        state["norms"] = saved["norms"].to(state["norms"].device)

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("_granularity", "_ranks", "_fused")}
        return super().__getstate__() | own
