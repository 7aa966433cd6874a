"""`Primary`: one loss that no update opposes, whatever the method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from equipoise.aggregation.base import Aggregation
from equipoise.autograd import shared as sharing
from equipoise.autograd.accumulate import surrogate
from equipoise.gradients.apply import BackwardCall, Descent
from equipoise.gradients.gradients import Gradients
from equipoise.wrappers.base import Below, Preference

if TYPE_CHECKING:
    from torch import Tensor
    from torch.amp.grad_scaler import GradScaler

    from equipoise.autograd.targets import Wrt
    from equipoise.losses import Losses, Terms
    from equipoise.record import Record


class Primary(Preference):
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
        balancer: The method, or another preference on top of one. The outermost has the last word.
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

    adjusting: _Unopposed
    is_primary: Tensor

    def __init__(self, balancer: Below, primary: str) -> None:
        super().__init__(balancer)
        if primary not in self.names:
            msg = f"`primary` is {primary!r}; the losses are {', '.join(map(repr, self.names))}."
            raise ValueError(msg)
        self.primary = primary
        self.adjusting = _Unopposed(
            ["update", "primary"], process_group=balancer.processes.group, wrt="shared"
        )
        self.state("is_primary", torch.tensor([name == primary for name in self.names]))

    def forward(self, losses: Losses) -> Tensor:
        """The balanced loss, a scalar to call ``.backward()`` on.

        Args:
            losses: The losses of this step.

        Returns:
            ``sum_i w_i L_i``, with constant weights.

        Raises:
            TypeError: If the method is no weighting of the losses.
        """
        terms, _ = self._begin(losses)
        total: Tensor = self.adjusting(self._pair(self.balancer(losses), terms))
        self._finish(terms)
        return total

    def backward(
        self,
        losses: Losses,
        *,
        wrt: Wrt | None = None,
        retain_graph: bool = False,
        scaler: GradScaler | None = None,
        backward: BackwardCall | None = None,
    ) -> Record:
        """Balances the losses and accumulates into ``.grad``, as ``Tensor.backward`` does.

        Args:
            losses: The losses of this step.
            wrt: Where the method watches gradients in this step.
            retain_graph: Whether the graph outlives the call.
            scaler: A ``torch.amp.GradScaler``, in place of ``scaler.scale(loss).backward()``.
            backward: A callable such as ``accelerator.backward``, called once on the balanced loss.

        Returns:
            The record of the step.
        """
        terms, _ = self._begin(losses)
        if backward is not None and self.weighting and wrt is None:
            update = self.balancer(losses)
        else:
            update = self._update(losses, terms, wrt, scaler)
        self.adjusting.backward(
            self._pair(update, terms), retain_graph=retain_graph, scaler=scaler, backward=backward
        )
        return self._finish(terms)

    def _update(
        self, losses: Losses, terms: Terms, wrt: Wrt | None, scaler: GradScaler | None
    ) -> Tensor:
        """A scalar whose gradient is the method's update."""
        leaves = sharing.parameters(terms.tensors).everything
        before = [leaf.grad for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        try:
            self.balancer.backward(losses, wrt=wrt, retain_graph=True, scaler=scaler)
            found = [(leaf, leaf.grad) for leaf in leaves if leaf.grad is not None]
        finally:
            for leaf, gradient in zip(leaves, before, strict=True):
                leaf.grad = gradient
        seed = Descent(scaler=scaler).seed(terms.tensors)
        scale = 1 if seed is None else seed
        return surrogate([leaf for leaf, _ in found], [gradient / scale for _, gradient in found])

    def _pair(self, update: Tensor, terms: Terms) -> dict[str, Tensor | None]:
        return {"update": update, "primary": self._counted(terms).get(self.primary)}

    def _finish(self, terms: Terms) -> Record:
        below, pair = self._said(), self.adjusting.last
        weights = below.weights
        if pair is not None:
            weights = weights + self.is_primary * pair.weights[1].to(weights.dtype)
        return self._conclude(terms, weights, below)

    def weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The weights of the method, with that of the primary loss raised where it is opposed.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[T]`` weights.

        Raises:
            TypeError: If the method is no weighting of the losses.
        """
        weights = self._below(self.follow(values.detach()), gradients)
        chosen = self.is_primary.to(weights.dtype)
        mixed = torch.stack([weights, chosen]).to(gradients.gram().dtype)
        return weights + _counterweight(mixed @ gradients.gram() @ mixed.T).to(weights) * chosen

    def combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The update; advances the state.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[P]``.
        """
        values = self.follow(values.detach())
        update = self._below_combined(values, gradients)
        primary = gradients.combine(self.is_primary.to(values.dtype)).to(update.dtype)
        weight = _counterweight(Gradients(torch.stack([update, primary])).gram())
        return update + weight.to(update.dtype) * primary


class _Unopposed(Aggregation):
    """Two losses, an update and the primary one, of which the first may not oppose the second."""

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        weights = torch.ones_like(values)
        if len(weights) == 1:  # a step without the primary loss
            return weights
        weights[1] = _counterweight(gradients.gram())
        return weights


def _counterweight(gram: Tensor) -> Tensor:
    """What multiple of the second gradient makes the first one oppose it no more."""
    inner, square = gram[0, 1], gram[1, 1]
    weight = (-inner / square).clamp(min=0)
    return torch.where(square > 0, weight, 0.0)
