"""`Shares`: stated shares of the gradient for each loss, on top of any method."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.gradients.apply import BackwardCall
from equipoise.losses import per_loss
from equipoise.wrappers.base import Below, Preference

if TYPE_CHECKING:
    from torch import Tensor
    from torch.amp.grad_scaler import GradScaler
    from typing_extensions import Unpack

    from equipoise.autograd.targets import Wrt
    from equipoise.balancer import LooksAt, PerLoss
    from equipoise.gradients.gradients import Gradients
    from equipoise.losses import Losses, LossNames, Terms
    from equipoise.record import Record


class Shares(Preference):
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
        balancer: The method, or another preference on top of one. The outermost has the last word.
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

    adjusting: _Divided

    def __init__(self, balancer: Below, shares: PerLoss, *, wrt: Wrt = "shared") -> None:
        super().__init__(balancer)
        self.adjusting = _Divided(
            self.names, shares, wrt=wrt, process_group=balancer.processes.group
        )

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
        self.balancer(losses)
        self.adjusting.ask(self._said().weights)
        total: Tensor = self.adjusting(self._counted(terms))
        divided = self.adjusting.done()
        self._conclude(terms, divided.weights, divided)
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
            wrt: Where the norms are measured in this step, while the method watches where it was
                built to. If it is no weighting of the losses, the other way round.
            retain_graph: Whether the graph outlives the call.
            scaler: A ``torch.amp.GradScaler``, in place of ``scaler.scale(loss).backward()``.
            backward: A callable such as ``accelerator.backward``, called once on the balanced loss.

        Returns:
            The record of the step.
        """
        terms, _ = self._begin(losses)
        if self.weighting:
            self.balancer(losses)
            self.adjusting.ask(self._said().weights)
            divided = self.adjusting.backward(
                self._counted(terms),
                wrt=wrt,
                retain_graph=retain_graph,
                scaler=scaler,
                backward=backward,
            )
            return self._conclude(terms, divided.weights, divided)
        scaled = self._scaled(terms)
        self.balancer.backward(
            scaled, wrt=wrt, retain_graph=retain_graph, scaler=scaler, backward=backward
        )
        divided = self.adjusting.done()
        return self._conclude(terms, divided.weights * self._said().weights, divided)

    def _scaled(self, terms: Terms) -> dict[str, Tensor]:
        """The losses, multiplied so that their gradients stand in the ratio of the shares."""
        losses = {terms.present_names[i]: t for i, t in zip(terms.here, terms.tensors, strict=True)}
        self.adjusting.ask(torch.ones(len(self.names), device=terms.values().device))
        self.adjusting(losses)
        weights = dict(zip(self.names, self.adjusting.done().weights, strict=True))
        return {name: loss * weights[name].to(loss.dtype) for name, loss in losses.items()}

    def weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The weights that give each loss its share; advances the state.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[T]`` weights.

        Raises:
            TypeError: If the method is no weighting of the losses.
        """
        self.adjusting.ask(self._below(values, gradients))
        return self.adjusting.weigh(values, gradients)

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
        self.adjusting.ask(torch.ones_like(values))
        weights = self.adjusting.weigh(values, gradients)
        return self._below_combined(values * weights.to(values.dtype), gradients.scaled(weights))


class _Divided(Aggregation):
    """Gives the losses their shares of the length that some weights would have.

    Args:
        losses: The names of the losses.
        shares: By name or in order.
        options: See `Aggregation`.
    """

    looks_at: ClassVar[LooksAt] = "norms"

    shares: Tensor
    asked: Tensor

    def __init__(
        self, losses: LossNames, shares: PerLoss, **options: Unpack[AggregationOptions]
    ) -> None:
        super().__init__(losses, **options)
        found = per_loss(shares, self.names, "shares")
        if bool((found < 0).any()) or not bool(found.any()):
            msg = f"`shares` is {shares}; it has no negative number and not only zeros."
            raise ValueError(msg)
        self.state("shares", found)
        self.state("asked", torch.ones(len(self.names)))

    def ask(self, weights: Tensor) -> None:
        """Takes the weights that tell the length of the step.

        Args:
            weights: ``[T]``.
        """
        self.asked = self.follow(weights.detach()).to(self.asked.dtype)

    def done(self) -> Record:
        """The record of the step that was just made.

        Raises:
            RuntimeError: If there was none.
        """
        if self.last is None:
            msg = "There was no step yet; call `backward(losses)` first."
            raise RuntimeError(msg)
        return self.last

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        norms = gradients.norms().to(values.dtype)
        reached = norms > 0
        length = (self.asked.abs() * norms).sum()
        shares = torch.where(reached, self.shares, 0.0)
        part = shares / shares.sum().clamp(min=torch.finfo(shares.dtype).tiny)
        return torch.where(reached, part * length / norms, self.asked)
