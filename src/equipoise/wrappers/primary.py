"""`Primary`: one loss that no update opposes, whatever the method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from equipoise.autograd import shared
from equipoise.autograd.compiled import KeptForPasses
from equipoise.autograd.precision import full_precision
from equipoise.autograd.targets import Wrt
from equipoise.balancer import Balancer, Decide, Outcome
from equipoise.gradients.apply import BackwardPass
from equipoise.gradients.directions import Direction, direction, plus, products
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.update import Update
from equipoise.learner import Step
from equipoise.losses import Terms
from equipoise.wrappers.base import Wrapper


class Primary(Wrapper):
    r"""Keeps the update of any method from opposing one loss.

    With ``d`` the update of the method and :math:`g_p` the gradient of the primary loss, over all
    parameters that it reaches,

    .. math:: d' = d + \lambda g_p, \qquad
        \lambda = \max\Big(0, -\frac{d^\top g_p}{\|g_p\|^2}\Big)

    which is the nearest to ``d`` of all updates with :math:`d'^\top g_p \ge 0`. Where the method
    does not oppose the primary loss, its update stays as it is. The weight in the record is that of
    the method plus :math:`\lambda`.

    A step costs the method's own passes and one more, of the primary loss; ``balancer(losses)``
    costs two more. With ``every=k`` in the method below the update is looked at in each step all
    the same.

    Args:
        balancer: The method, or another wrapper around one. The outermost has the last word.
        primary: The name of the loss. In a step that does not have it the method's update stays.

    Raises:
        TypeError: If ``balancer`` is none.
        ValueError: If ``primary`` is no loss.

    Example:
        >>> from equipoise import Equal
        >>> weight = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> balancer = Primary(Equal(["main", "other"]), "main")
        >>> losses = {"main": weight[0], "other": weight[1] - 3 * weight[0]}
        >>> record = balancer.backward(losses)
        >>> weight.grad, balancer.weights
        (tensor([0., 1.]), {'main': 3.0, 'other': 1.0})

    References:
        The projection of PCGrad (Yu, Kumar, Gupta, Levine, Hausman, Finn 2020, arXiv 2001.06782,
        Algorithm 1), applied once, to the update.
    """

    binding: ClassVar[bool] = True

    is_primary: Tensor
    counterweight: Tensor

    def __init__(self, balancer: Balancer, primary: str) -> None:
        super().__init__(balancer)
        self.looks_at = "gradients" if balancer.looks_at == "gradients" else "gramian"
        if primary not in self.names:
            msg = f"`primary` is {primary!r}; the losses are {', '.join(map(repr, self.names))}."
            raise ValueError(msg)
        self.primary = primary
        self._keeping = KeptForPasses()
        self.option("is_primary", torch.tensor([name == primary for name in self.names]))
        self.state("counterweight", torch.zeros(()), axes=0)

    def _weights(
        self, step: Step, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> tuple[Tensor, Gradients | None]:
        weights, gradients = self.balancer._weights(step, wrt, decide)
        self.balancer._note(step.terms, weights, gradients)
        if self._applies_to(step) and torch.is_grad_enabled():
            how = BackwardPass(self._average, retain_graph=True)
            self._oppose(step, how, [how.weighted(step.terms, weights)])
        return self._raised(step, weights), gradients

    def _step(
        self, step: Step, how: BackwardPass, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> Outcome:
        below = self.balancer._step(step, how.keeping_graph(), wrt, decide)
        self.balancer._note(step.terms, below.weights, below.gradients)
        if not self._applies_to(step):
            return below
        updates = [self._oppose(step, how, below.updates)]
        return Outcome(self._raised(step, below.weights), updates, below.gradients)

    def _from_beside(self, kept: dict[str, Any]) -> dict[str, Tensor]:
        return {"counterweight": kept["resting"][1]}

    def _applies_to(self, step: Step) -> bool:
        return self.primary in step.terms.present_names

    def _oppose(self, step: Step, how: BackwardPass, updates: Sequence[Update]) -> Update:
        """Makes an update oppose the primary loss no more, and keeps by how much."""
        common = self._average.leaves(step.terms)
        leaves = self._leaves(step.terms, updates, common)
        update = direction(updates, leaves, self._average, common, retain_graph=True)
        chosen = self._present(step, self.is_primary).to(self.counterweight.dtype)
        primary = direction(
            [how.weighted(step.terms, chosen)],
            leaves,
            self._average,
            common,
            retain_graph=how.retain_graph or self._keeping.needed(step.terms.tensors),
        )
        if step.counts:
            self._learn(update, primary)
        total = plus(update, self.counterweight, primary)
        shards = self._average.sharded.shards()
        there = [
            (shards.get(leaf, leaf), g)
            for leaf, g in zip(leaves, total, strict=True)
            if g is not None
        ]
        return Update(
            [leaf for leaf, _ in there], [gradient for _, gradient in there], averaged=True
        )

    def _leaves(
        self, terms: Terms, updates: Sequence[Update], common: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """The leaves of the step: those that an update names, where it names them all."""
        roots = [root for update in updates for root in update.roots]
        named = [root for root in roots if isinstance(root, Tensor) and root.is_leaf]
        if len(named) == len(roots) and not self._average.sharded.shards():
            return tuple(dict.fromkeys((*common, *named)))
        mine = shared.parameters(terms.tensors).everything
        return tuple(dict.fromkeys((*common, *mine)))

    def _learn(self, update: Direction, primary: Direction) -> None:
        found = products(update, primary, self._average)
        if found is None:
            self.counterweight = torch.zeros_like(self.counterweight)
            return
        weight = _counterweight(*found).to(self.counterweight)
        self.counterweight = torch.where(weight.isfinite(), weight, 0.0)

    def _raised(self, step: Step, weights: Tensor) -> Tensor:
        if not self._applies_to(step):
            return weights
        return weights + self._present(step, self.is_primary) * self.counterweight.to(weights)

    def _present(self, step: Step, numbers: Tensor) -> Tensor:
        return numbers[list(step.terms.present)]

    @full_precision()
    def weigh(self, values: Tensor, gradients: Gradients | None = None) -> Tensor:
        """The weights of the method, with that of the primary loss raised where it is opposed.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[T]`` weights.

        Raises:
            TypeError: If the method is no weighting of the losses, or there are no gradients.
        """
        gradients = self._given(gradients)
        weights = self.balancer.weigh(self.follow(values.detach()), gradients)
        chosen = self.is_primary.to(weights.dtype)
        mixed = torch.stack([weights, chosen]).to(gradients.gram().dtype)
        gram = mixed @ gradients.gram() @ mixed.T
        return weights + _counterweight(gram[0, 1], gram[1, 1]).to(weights) * chosen

    @full_precision()
    def combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The update; advances the state.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[P]``.
        """
        values = self.follow(values.detach())
        update = self.balancer.combine(values, gradients)
        primary = gradients.combine(self.is_primary.to(values.dtype)).to(update.dtype)
        gram = Gradients(torch.stack([update, primary])).gram()
        return update + _counterweight(gram[0, 1], gram[1, 1]).to(update.dtype) * primary


def _counterweight(inner: Tensor, square: Tensor) -> Tensor:
    """What multiple of the primary gradient makes an update oppose it no more."""
    weight = (-inner / square).clamp(min=0)
    return torch.where(square > 0, weight, 0.0)
