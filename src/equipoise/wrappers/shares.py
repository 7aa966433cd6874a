"""`Shares`: stated shares of the gradient for each loss, on top of any method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from equipoise.autograd.precision import full_precision
from equipoise.autograd.targets import Held, Wrt
from equipoise.balancer import Balancer, Decide, Outcome, PerLoss
from equipoise.gradients.apply import BackwardPass
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.measuring import Measuring
from equipoise.gradients.meter import Meter
from equipoise.learner import Step
from equipoise.losses import per_loss
from equipoise.wrappers.base import Wrapper


class Shares(Wrapper):
    r"""Divides the gradient between the losses as stated, whatever their scales.

    With :math:`n_i` the norm of the gradient of loss ``i``, and :math:`w_i` the weight that the
    method gives it,

    .. math:: w'_i = \frac{s_i}{\sum_j s_j} \cdot \frac{R}{n_i}, \qquad R = \sum_j |w_j|\, n_j

    so that :math:`w'_i n_i` stand in the ratio of the shares, in each step: the method says how
    long the step is, the shares how it is divided. A method that is no weighting of the losses
    divides nothing itself; it is given losses that were multiplied so that their gradients stand in
    the ratio of the shares, with :math:`w_j = 1`, and combines those.

    Absent losses have no share, and a loss without gradient where it is watched keeps the weight
    of the method; the others divide the whole among themselves. A step costs the method's own
    passes and one for each loss. `GradientShares` is the method of its own with such shares, of
    running means.

    Args:
        balancer: The method, or another wrapper around one. The outermost has the last word.
        shares: :math:`s_i`, by name or in order; 80 and 20 are the same as 0.8 and 0.2.
        wrt: Where the norms are measured.

    Raises:
        TypeError: If ``balancer`` is none.
        ValueError: If a share is negative or missing, or all are zero.

    Example:
        >>> from equipoise import Equal, Gradients
        >>> balancer = Shares(Equal(["a", "b"]), {"a": 80, "b": 20})
        >>> gradients = Gradients(torch.tensor([[3.0, 4.0], [0.0, 95.0]]))
        >>> balancer.weigh(torch.ones(2), gradients) * gradients.norms()
        tensor([80., 20.])

    References:
        The shares are those of Défossez, Copet, Synnaeve, Adi 2022, arXiv 2210.13438, section 3.4.
    """

    binding: ClassVar[bool] = True

    shares: Tensor

    def __init__(self, balancer: Balancer, shares: PerLoss, *, wrt: Wrt = "shared") -> None:
        super().__init__(balancer)
        self.looks_at = "norms" if balancer.looks_at == "losses" else balancer.looks_at
        found = per_loss(shares, self.names, "shares")
        if bool((found < 0).any()) or not bool(found.any()):
            msg = f"`shares` is {shares}; it has no negative number and not only zeros."
            raise ValueError(msg)
        self.option("shares", found)
        self._wrt: Held[Wrt] = Held(wrt)
        self._meter = Meter(Measuring(), self.processes, needs="norms")

    def _weights(
        self, step: Step, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> tuple[Tensor, Gradients | None]:
        weights, gradients = self.balancer._weights(step, None, decide)
        self.balancer._note(step.terms, weights, gradients)
        measured = self._measure(step, wrt)
        with self.among(step.terms.present):
            return self._divided(weights, measured), measured

    def _step(
        self, step: Step, how: BackwardPass, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> Outcome:
        if self.weighting:
            weights, measured = self._weights(step, wrt, decide)
            return Outcome(weights, [how.weighted(step.terms, weights)], measured)
        measured = self._measure(step, None)
        with self.among(step.terms.present):
            weights = self._divided(torch.ones_like(step.terms.values()), measured)
        scaled = replace(step, terms=step.terms.times(weights))
        below = self.balancer._step(scaled, how, wrt, decide)
        self.balancer._note(scaled.terms, below.weights, below.gradients)
        return Outcome(weights * below.weights.to(weights), below.updates, measured)

    def _from_beside(self, kept: dict[str, Any]) -> dict[str, Tensor]:
        return {"shares": kept["shares"]}

    def _measure(self, step: Step, wrt: Wrt | None) -> Gradients | None:
        """The gradients whose norms are divided; ``None`` where the weights rest."""
        if not step.counts:
            return None
        terms = step.terms
        watched = self._meter.watch(terms, self._wrt.unless(wrt))
        if watched is None:
            return None
        return self._meter.run(terms, watched, retain_graph=True, applies=False).gradients

    def _divided(self, weights: Tensor, measured: Gradients | None) -> Tensor:
        """Weights of the stated shares; those of the last step where nothing was measured."""
        if measured is None:
            return self.resting.to(weights)
        norms = measured.norms()
        divided = _divide(weights, norms, self.shares)
        sound = (norms.isfinite().all() & divided.isfinite().all()).to(norms.device)
        return torch.where(sound, divided, self.resting.to(divided))

    @full_precision()
    def weigh(self, values: Tensor, gradients: Gradients | None = None) -> Tensor:
        """The weights that give each loss its share; advances the state.

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
        return _divide(weights, gradients.norms(), self.shares)

    @full_precision()
    def combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The combined gradient; advances the state.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[P]``.
        """
        if self.weighting:
            return gradients.combine(self.weigh(values, gradients))
        values = self.follow(values.detach())
        weights = _divide(torch.ones_like(values), gradients.norms(), self.shares)
        return self.balancer.combine(values * weights.to(values.dtype), gradients.scaled(weights))


def _divide(weights: Tensor, norms: Tensor, shares: Tensor) -> Tensor:
    """The weights whose gradients have the shares of the length that the given ones make."""
    norms = norms.to(weights.dtype)
    reached = norms > 0
    length = (weights.abs() * norms).sum()
    there = torch.where(reached, shares.to(weights.dtype), 0.0)
    part = there / there.sum().clamp(min=torch.finfo(there.dtype).tiny)
    return torch.where(reached, part * length / norms, weights)
