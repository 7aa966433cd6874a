"""`PerModule`: a balancer for each part of the model, from one set of backward passes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor, nn

from equipoise.aggregation.base import Aggregation
from equipoise.aggregation.observing import ObservingAggregation
from equipoise.autograd.shared import not_reaching
from equipoise.autograd.targets import Held, Target, Watched, Wrt, listed
from equipoise.balancer import Balancer, Decide, Outcome
from equipoise.gradients.apply import BackwardPass
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.measuring import Measuring
from equipoise.gradients.meter import Meter
from equipoise.learner import Step
from equipoise.losses import Losses
from equipoise.parallel.processes import Processes
from equipoise.wrappers.base import Wrapper

Parts: TypeAlias = Mapping[str, nn.Module | Tensor | Iterable[Tensor]]
"""What each part of a model is called, and what belongs to it."""

REST = "rest"
"""The part of what is in no other."""


@dataclass(frozen=True)
class Part:
    """One part in one step.

    Attributes:
        name: What it is called.
        start: The first of its tensors, by position among those that are watched.
        stop: The position behind the last.
        places: The losses that reach it, by place among those that the step has.
    """

    name: str
    start: int
    stop: int
    places: tuple[int, ...]


class PerModule(Wrapper):
    r"""Balances each part of the model apart: a method's weights for the encoder, others elsewhere.

    With :math:`J_k` the gradients of the losses with respect to part ``k``, and ``W`` the method,

    .. math:: \theta_k \ \text{gets} \ J_k^\top W_k(J_k J_k^\top)

    Losses may conflict in one layer and agree in the next; one set of weights for the whole model
    cannot say both. All gradients come from the same ``T`` backward passes, and each part has its
    own copy of the method, with a state of its own. A loss that does not reach a part is absent to
    its copy. Shared parameters that are in no part are one more, called ``"rest"``, and what one
    loss has for itself gets its plain gradient (its priority).

    The result is a combined gradient, no weighting of the losses: `weights` are the priorities, and
    `part_weights` are those of each part. Rows of all shared parameters are kept, as by a method
    that looks at whole gradients. `combine` takes `Gradients` of the parts' tensors in their order.
    Priorities, ``scale`` and ``nonfinite`` are those of the method;
    where it was built to look (``wrt``) does not count, nor do its ``heads``.

    Args:
        balancer: The method, built for these losses; each part gets a copy.
        parts: By name, a module, a parameter, or several. No tensor is in two of them.

    Raises:
        TypeError: If ``balancer`` is none, looks at loss values only, gives a combined gradient
            itself, or wants further mini-batches.
        ValueError: If its ``every`` is not 1, there is no part, a tensor is in two, or a name is
            taken.

    Example:
        >>> from equipoise import UPGrad
        >>> encoder, decoder = nn.Linear(2, 3), nn.Linear(3, 2)
        >>> balancer = PerModule(UPGrad(["a", "b"]), {"encoder": encoder, "decoder": decoder})
        >>> a, b = decoder(encoder(torch.ones(4, 2)).tanh()).square().mean(dim=0)
        >>> record = balancer.backward({"a": a, "b": b - a})
        >>> sorted(balancer.part_weights)
        ['decoder', 'encoder', 'rest']

    References:
        The grouping of TorchJD's documentation is this with an aggregator for each group; Wang,
        Tsvetkov, Firat, Cao 2021, arXiv 2010.05874, compare gradients of parts of the model.
    """

    def __init__(self, balancer: Balancer, parts: Parts) -> None:
        super().__init__(balancer)
        _refuse_method(balancer)
        self.looks_at = "gradients"
        self.weighting = False
        self.heads = "plain"
        kept = {n: p if isinstance(p, nn.Module) else listed(p) for n, p in parts.items()}
        _refuse_parts(kept)
        self._parts = Held(tuple(kept.items()))
        self._part_names = tuple(kept)
        self.parts = nn.ModuleDict({_key(name): copy.deepcopy(balancer) for name in parts})
        self._meter = _meter(balancer, self.processes)

    @property
    def part_weights(self) -> dict[str, dict[str, float]]:
        """For each part, what its copy of the method last multiplied each loss with."""
        factors = self.balancer.factors
        return {
            name: dict(zip(self.names, (part.resting * factors).tolist(), strict=True))
            for name, part in self._copies().items()
        }

    def _copies(self) -> dict[str, Balancer]:
        """The balancer of each part; that below is the rest's."""
        copies = [part for part in self.parts.values() if isinstance(part, Balancer)]
        return {**dict(zip(self._part_names, copies, strict=True)), REST: self.balancer}

    def _begin(self, losses: Losses) -> Step:
        step = super()._begin(losses)
        if step.terms.given is None:  # not due, but the processes measure together all the same
            step = replace(step, terms=self.processes.agree(step.terms))
        self._agree_on_draws()
        for part in self._copies().values():
            _innermost(part)._idle = _innermost(self.balancer)._idle
        return step

    def _learned(self) -> None:
        """The method, which begins the steps, has learned if one of its copies has."""
        idle = (_innermost(part)._idle for part in self._copies().values())
        _innermost(self.balancer)._idle = min(idle)

    def _step(
        self, step: Step, how: BackwardPass, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> Outcome:
        terms = step.terms
        with self.balancer.among(terms.present):
            factors = self.balancer.factors.clone()
            values = self.balancer._as_seen(terms.values())
        watched = self._meter.watch(terms, "shared" if wrt is None else wrt)
        if watched is None:
            keeps = self._meter.keeping.needed(terms.tensors)
            plain = replace(how.weighted(terms, factors), retain_graph=keeps)
            return Outcome(factors, [plain])
        watched, parts = self._sorted(watched, len(terms.present))
        measured = self._meter.run_before(terms, watched, how)
        gradients = measured.gradients
        seen = gradients.scaled(factors)
        combined = torch.cat([self._of_part(part, step, values, seen) for part in parts])
        self._learned()
        return Outcome(factors, measured.combined(how, terms, combined, factors), gradients)

    def _of_part(self, part: Part, step: Step, values: Tensor, gradients: Gradients) -> Tensor:
        """The combined gradient of one part, flat."""
        places = list(part.places)
        own = gradients.of_tensors(part.start, part.stop).among(places)
        if len(places) < 2:  # nothing to balance, and no formula has to be fit for it
            return own.combine(torch.ones_like(values[places]))
        balancer = self._copies()[part.name]
        with balancer.among(tuple(step.terms.present[place] for place in places)):
            weights = balancer.weigh(values[places], own) if step.due else balancer.resting
            return own.combine(weights)

    def _sorted(self, watched: Watched, count: int) -> tuple[Watched, list[Part]]:
        """What is watched, part after part, so that each has its columns side by side."""
        reach = watched.leaves.reach if watched.leaves is not None else {}
        parts: list[Part] = []
        ordered: list[Tensor] = []
        for name, leaves in self._by_part(watched.targets).items():
            absent = not_reaching(leaves, reach, count) if reach else ()
            places = tuple(place for place in range(count) if place not in absent)
            start = len(ordered)
            ordered += leaves
            parts += [Part(name, start, len(ordered), places)] if leaves else []
        return replace(watched, targets=tuple(ordered)), parts

    def _by_part(self, targets: Sequence[Target]) -> dict[str, list[Tensor]]:
        # What the graph holds of a sharded parameter is not what the module holds.
        shards = self._meter.sharded.shards()
        homes = {tensor: name for name, part in self._parts.named for tensor in _tensors(part)}
        found: dict[str, list[Tensor]] = {name: [] for name in (*self._part_names, REST)}
        for target in targets:
            if not (isinstance(target, Tensor) and target.is_leaf):
                msg = "Parts are told by their parameters, but `wrt` names a tensor of the graph."
                raise TypeError(msg)
            found[homes.get(shards.get(target, target), REST)].append(target)
        return found

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        """Outside a graph the parts are told by the order of their tensors."""
        ends = list(accumulate(len(_tensors(part)) for _, part in self._parts.named))
        if len(gradients.sizes) != ends[-1]:
            msg = (
                f"`gradients` has the sizes of {len(gradients.sizes)} tensors, and the parts have "
                f"{ends[-1]}; pass Gradients(matrix, sizes), with the tensors of each part in turn."
            )
            raise TypeError(msg)
        cuts = zip(self._part_names, [0, *ends], ends, strict=False)
        copies = self._copies()
        found = [copies[n].combine(values, gradients.of_tensors(*cut)) for n, *cut in cuts]
        return torch.cat(found)

    def _method(self) -> str:
        return f"PerModule({super()._method()})"


def _tensors(part: nn.Module | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Those of a part; a module may have others tomorrow."""
    return tuple(part.parameters() if isinstance(part, nn.Module) else part)


def _innermost(balancer: Balancer) -> Balancer:
    """The method that a balancer is, or is a wrapper around."""
    while isinstance(balancer, Wrapper):
        balancer = balancer.balancer
    return balancer


def _meter(balancer: Balancer, processes: Processes) -> Meter:
    """Measures what the method was built to measure, and keeps all rows, which parts are cut of."""
    inner = _innermost(balancer)
    if not isinstance(inner, Aggregation):
        return Meter(Measuring(), processes)
    below = inner._meter
    return Meter(replace(below.measuring, rows=None), processes, trained=below.named_trained)


def _key(name: str) -> str:
    """The name as part of a state's keys, which dots divide."""
    return name.replace(".", "/")


def _refuse_method(balancer: Balancer) -> None:
    method = balancer._method()
    if balancer.looks_at == "losses":
        msg = (
            f"{method} looks at loss values only, which are the same for every part of the model, "
            "and so would its weights be; use it as it is."
        )
        raise TypeError(msg)
    if not balancer.weighting or any(
        isinstance(m, ObservingAggregation) for m in balancer.modules()
    ):
        msg = (
            f"{method} gives a combined gradient or wants further mini-batches; PerModule takes "
            "methods that find weights from the gradients of one batch, such as UPGrad or MGDA."
        )
        raise TypeError(msg)
    if balancer.every != 1:
        msg = (
            f"`every` of {method} is {balancer.every}, but the parts have no weights in common to "
            "reuse between steps; leave it at 1."
        )
        raise ValueError(msg)


def _refuse_parts(parts: Mapping[str, nn.Module | Sequence[Tensor]]) -> None:
    if not parts:
        msg = "`parts` names no part; write, for example, {'encoder': model.encoder}."
        raise ValueError(msg)
    homes: dict[Tensor, str] = {}
    for name, part in parts.items():
        if name == REST or hasattr(nn.ModuleDict, _key(name)):
            msg = f"`parts` has the name {name!r}, which is taken; call this part otherwise."
            raise ValueError(msg)
        for tensor in _tensors(part):
            if homes.setdefault(tensor, name) != name:
                msg = (
                    f"A tensor of shape {tuple(tensor.shape)} is in the parts {homes[tensor]!r} "
                    f"and {name!r}; leave it to one of them."
                )
                raise ValueError(msg)
