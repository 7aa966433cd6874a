"""`Aggregation`: a balancer that looks at gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import ClassVar, Literal

from torch import Tensor
from torch.distributed import ProcessGroup

from equipoise.autograd import shared
from equipoise.autograd.compiled import refuse_parting_in_compiled
from equipoise.autograd.graph import Parting, edges_of, is_leaf
from equipoise.autograd.inputs import Trained
from equipoise.autograd.targets import Held, Target, Watched, Wrt
from equipoise.balancer import Balancer, Decide, LooksAt, Outcome
from equipoise.gradients.apply import BackwardPass
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.measurement import Measurement
from equipoise.gradients.measuring import Measuring
from equipoise.gradients.meter import Meter, Needs
from equipoise.gradients.update import Update
from equipoise.learner import BalancerOptions, Step
from equipoise.losses import Graphless, LossNames, Terms
from equipoise.parallel.fsdp import ShardedModules
from equipoise.parts.checks import check_choice
from equipoise.parts.notices import warn_of_zero
from equipoise.parts.scaling import Scale
from equipoise.schedules import Priorities


class AggregationOptions(BalancerOptions, total=False):
    """What every aggregation takes by keyword; see `Aggregation`."""

    wrt: Wrt | None
    trained: Trained | None
    heads: Literal["weighted", "plain"]
    measuring: Measuring | None


class Aggregation(Balancer):
    """A balancer that looks at gradients.

    A method supplies `_weigh`, or, if it is no weighting of the losses, `_combine` (and declares
    ``weighting = False``).

    Args:
        losses: How many losses there are, or their unique names.
        wrt: Where gradients are watched; ``None`` is what the paper uses.
        trained: What this balancer's steps train: an optimizer, several, a module, or parameters.
            Other leaves that losses share, such as the critic in a generator's step, get the
            gradient of the weighted losses, but are not watched. ``None``: all parameters of the
            graph; see `equipoise.autograd.inputs.watchable` for tensors that are none.
        heads: Whether parameters that one loss has for itself receive its weighted gradient, or its
            plain one. The literature has both.
        measuring: What to spend on measuring: memory, precision, batched passes.
        priorities: See `Balancer`.
        every: See `Balancer`.
        nonfinite: See `Balancer`.
        graphless: See `Balancer`.
        scale: See `Balancer`.
        process_group: See `Balancer`.

    Raises:
        ValueError: If an option is out of range, or ``every`` is set for a method without weights.
        TypeError: If the method needs whole gradients and the model is in ``fully_shard``.

    Attributes:
        shardable: Whether the formula needs no more of sharded gradients than inner products and
            its own process's columns; ``None``: unless it looks at whole gradients.
    """

    looks_at: LooksAt = "gramian"
    shardable: ClassVar[bool | None] = None
    default_wrt: ClassVar[Literal["shared", "last_shared", "representation"]] = "shared"

    def __init__(
        self,
        losses: LossNames,
        *,
        wrt: Wrt | None = None,
        trained: Trained | None = None,
        heads: Literal["weighted", "plain"] = "weighted",
        measuring: Measuring | None = None,
        priorities: Priorities | None = None,
        every: int = 1,
        nonfinite: Literal["skip", "raise"] = "skip",
        graphless: Graphless = "absent",
        scale: Scale | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(
            losses,
            priorities=priorities,
            every=every,
            nonfinite=nonfinite,
            graphless=graphless,
            scale=scale,
            process_group=process_group,
        )
        check_choice("heads", heads, ("weighted", "plain"))
        if isinstance(wrt, str):
            check_choice("wrt", wrt, ("shared", "last_shared", "representation"))
        if every != 1 and not self.weighting:
            msg = (
                f"{type(self).__name__} has no weights to reuse between steps; leave `every` at 1."
            )
            raise ValueError(msg)
        self.heads = heads
        self._overlapped = False  # at the representation, the gradients of two losses
        self._wrt: Held[Wrt] = Held(self.default_wrt if wrt is None else wrt)
        self._refuse_shards(ShardedModules(), self._wrt.named)
        self._meter = Meter(
            measuring or Measuring(),
            self.processes,
            needs=self._needs(),
            trained=trained,
        )

    def _needs(self) -> Needs:
        """What is asked for of gradients; what is no weighting combines them itself."""
        if self.looks_at == "norms" or (self.looks_at == "gramian" and self.weighting):
            return self.looks_at
        return "gradients"

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The formula: ``[T]`` weights; reads and advances declared state."""
        raise NotImplementedError

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The formula: the ``[P]`` combined gradient, where the method is no weighting."""
        raise NotImplementedError

    def _formula(self, values: Tensor, gradients: Gradients | None) -> Tensor:
        return self._weigh(values, self._given(gradients))

    def _sized(self, name: str, gradients: Gradients) -> Tensor:
        """A piece of state as wide as a gradient; zeros where it had another width before."""
        state: Tensor = getattr(self, name)
        if state.shape[-1] != gradients.width:
            state = state.new_zeros(*state.shape[:-1], gradients.width)
            setattr(self, name, state)
        return state

    def _weights(
        self, step: Step, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> tuple[Tensor, Gradients | None]:
        watched = self._watch(step.terms, wrt) if step.due else None
        gradients = None
        if watched is not None:
            run = self._meter.run(step.terms, watched, retain_graph=True, applies=False)
            gradients = run.gradients
        weights = self._decided(step, gradients, decide or self._decide)
        self._warn_if_halted(step.terms, gradients)
        return weights, gradients

    def _step(
        self, step: Step, how: BackwardPass, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> Outcome:
        named = self._wrt.unless(wrt)
        watched = self._watch(step.terms, wrt) if step.due or not self.weighting else None
        decide = decide or self._decide
        again = named != "representation"  # there, every step passes what lies below once
        if watched is None:
            weights = decide(step, None)
            return Outcome(weights, self._weighted(how, step.terms, weights, again=again))
        measured = self._meter.run_before(step.terms, watched, how)
        if not self.weighting:
            return self._combined(step, how, measured)
        weights = self._decided(step, measured.gradients, decide)
        self._warn_if_halted(step.terms, measured.gradients)
        if named == "representation":
            self._warn_if_nothing_in_common(measured.gradients, watched.targets)
        update = measured.weighted(weights, self._own_weights(step.terms, weights))
        if update is not None:  # the rows are all that it takes
            return Outcome(weights, [update], measured.gradients)
        updates = self._weighted(how, step.terms, weights, again=again)
        return Outcome(weights, updates, measured.gradients)

    def _decided(self, step: Step, gradients: Gradients | None, decide: Decide) -> Tensor:
        """The weights: a loss that shares nothing where one looked counts with its priority.

        To the formula it is absent. Its zero row would be taken for a loss that is at its minimum.
        """
        if gradients is None or not gradients.apart:
            return decide(step, gradients)
        places = self._together(step.terms, gradients)
        narrowed = replace(step, terms=step.terms.among(places))
        found = decide(narrowed, gradients.among(places))
        with self.among(step.terms.present):
            weights = self.factors.to(found)
        weights = weights.clone()
        weights[places] = found
        return weights

    def _warn_if_halted(self, terms: Terms, gradients: Gradients | None) -> None:
        """A value of zero halts nothing here: surrogate losses of a policy have it by construction.

        A loss that shares nothing has no gradient where one looked, and counts with its priority.
        """
        if gradients is None or not self.halted_by or self._told_of_zero:
            return
        norms, _ = gradients.known()
        if norms is None or norms.device.type != "cpu":
            return
        numbers = [
            1.0 if place in gradients.apart else norm for place, norm in enumerate(norms.tolist())
        ]
        self._told_of_zero = warn_of_zero(
            self._method(), "The gradient of loss", self.halted_by, terms.present_names, numbers
        )

    def _warn_if_nothing_in_common(self, gradients: Gradients, place: Sequence[Target]) -> None:
        """The guard behind the walk: where losses have not met yet, no two gradients overlap.

        A parameter is made of nothing, so there is no other place to name. Where two gradients
        overlapped once, losses do meet, and nobody asks again.
        """
        if self._overlapped or all(is_leaf(node) for node, _ in edges_of(place)):
            return
        norms, cosines = gradients.known()
        if norms is None or cosines is None or len(cosines) < 2 or norms.device.type != "cpu":
            return
        compared = (norms > 0) & norms.isfinite()
        self._overlapped = bool((cosines - cosines.diagonal().diag()).any())
        if bool(compared.all()) and not self._overlapped:
            self._warn_once(
                "At the representation the gradients of the losses have nothing in common, as if "
                "each loss had a part of it for itself (masks or slices of one tensor), so their "
                "directions cannot be compared there. Write wrt='shared', or pass the tensor that "
                "they are made of."
            )

    def _together(self, terms: Terms, gradients: Gradients) -> list[int]:
        """The places of the losses that share something; says once which do not."""
        for place in gradients.apart:
            self._warn_once(
                f"Loss {terms.present_names[place]!r} shares nothing with the others where "
                "gradients are watched, so it counts with its plain weight (its priority). If that "
                "is not meant, say with `wrt` what to watch, with `trained` what this step trains."
            )
        return [place for place in range(len(terms.present)) if place not in gradients.apart]

    def _watch(self, terms: Terms, wrt: Wrt | None) -> Watched | None:
        watched = self._meter.watch(terms, self._wrt.unless(wrt))
        if watched is not None:
            self._refuse_shards(self._meter.sharded, watched.targets)
        return watched

    def _refuse_shards(self, sharded: ShardedModules, watched: Wrt | Sequence[Target]) -> None:
        if not _takes_shards(type(self)) and sharded.cuts(watched):
            able = sorted(kind.__name__ for kind in _methods(Aggregation) if _takes_shards(kind))
            msg = (
                f"{type(self).__name__} needs whole gradients, of which each process has only a "
                "part on a model in `fully_shard`. These methods do not, and neither does any "
                f"`Weighting`: {', '.join(able)}."
            )
            raise TypeError(msg)

    def _own_weights(self, terms: Terms, weights: Tensor) -> Tensor:
        if self.heads == "weighted":
            return weights
        with self.among(terms.present):
            return self.factors.clone()

    def _weighted(
        self, how: BackwardPass, terms: Terms, weights: Tensor, *, again: bool
    ) -> list[Update]:
        """The update of the balanced loss; in two parts if heads get plain gradients.

        Args:
            how: How the step goes backward.
            terms: The losses.
            weights: What they are multiplied with.
            again: Whether other passes, of this step or of later ones, go all the way as well.
        """
        keeps = again and self._meter.keeping.needed(terms.tensors)
        if self.heads == "weighted":
            return [replace(how.weighted(terms, weights), retain_graph=keeps)]
        parting = Parting(terms.tensors)
        refuse_parting_in_compiled(parting, "heads='weighted'")
        leaves = shared.parameters(parting)
        own = [leaf for part in leaves.own for leaf in part]
        rest = [*leaves.shared, *leaves.inputs]
        if not own:
            return [replace(how.weighted(terms, weights), retain_graph=keeps)]
        # The shared part first: an optimizer inside the pass may change what lies behind it.
        parts = [
            how.weighted(terms, weights, rest),
            replace(
                how.weighted(terms, self._own_weights(terms, weights), own), retain_graph=keeps
            ),
        ]
        sharded = self.processes.count > 1 and self._meter.sharded.reached_by(terms.tensors)
        if sharded:
            how.refuse_callable()
            return parts
        # Hooks of a wrapper, and a callable, want one pass in which every leaf is reached once.
        one_pass = self.processes.count > 1 or how.backward is not None
        return [how.found(parts, [*rest, *own])] if one_pass else parts

    def _combined(self, step: Step, how: BackwardPass, measured: Measurement) -> Outcome:
        """The update of a combined gradient; what is not watched gets the plain sum."""
        terms, gradients = step.terms, measured.gradients
        self.follow(terms.values())
        places = self._together(terms, gradients)
        some, seen = terms.among(places), gradients.among(places) if gradients.apart else gradients
        with self.among(some.present), nullcontext() if step.due else self.untouched():
            scaled = seen.scaled(self.factors.clone())
            combined = self.combine(self._as_seen(some.values()), scaled)
        with self.among(terms.present):
            priorities = self.factors.clone()
        return Outcome(priorities, measured.combined(how, terms, combined, priorities), gradients)


def _takes_shards(kind: type[Aggregation]) -> bool:
    return kind.looks_at != "gradients" if kind.shardable is None else kind.shardable


def _methods(kind: type[Aggregation]) -> Iterator[type[Aggregation]]:
    """The classes under this one from which no other is derived."""
    for derived in kind.__subclasses__():
        yield from _methods(derived) if derived.__subclasses__() else (derived,)
