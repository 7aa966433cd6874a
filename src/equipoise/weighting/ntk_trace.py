"""Neural tangent kernel weights of PINNs, from the kernel's diagonal (Wang et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.balancer import PerLoss
from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames, Terms, per_loss
from equipoise.parts.checks import check_choice, check_positive, check_within
from equipoise.parts.inverse import inverse_weights
from equipoise.parts.notices import IDLE_STEPS
from equipoise.weighting.base import Weighting
from equipoise.words import unknown_name


class NTKTrace(Weighting):
    r"""Weighs losses by their inverse share of the neural tangent kernel, one row a point.

    With :math:`k_i` the mean of the diagonal of the kernel of loss ``i`` and ``K`` their mean,

    .. math:: w_i \leftarrow \beta w_i + (1 - \beta) \frac{K}{k_i + \epsilon K}

    The kernel is not in the losses, so `observe` is told its diagonal, which `ntk_diagonal` finds.

    Args:
        losses: How many losses there are, or their unique names.
        momentum: :math:`\beta`, how much of the last weights stays; jaxpi: 0.9, observing at each
            1000th step; the paper: 0.
        pooling: What stands for the kernel of a loss: ``"mean"`` of its diagonal is jaxpi's;
            ``"trace"`` the paper's: :math:`k_i` the trace and ``K`` the sum of the traces.
        initial: The weights to begin with, one number or one per loss.
        eps: :math:`\epsilon`, which bounds the weights; jaxpi: 1e-5.
        options: See `Balancer`.

    Raises:
        ValueError: If ``momentum`` lies outside [0, 1), ``pooling`` is unknown, ``eps`` is not
            positive, or ``initial`` lacks a loss.

    Example:
        >>> balancer = NTKTrace(["residual", "boundary"], momentum=0.0)
        >>> balancer.observe({"residual": [1.0, 3.0], "boundary": [6.0]})
        >>> balancer.weigh(torch.tensor([1.0, 1.0]))
        tensor([2.0000, 0.6667])

    References:
        Wang, Yu, Perdikaris 2022, arXiv 2007.14527, Algorithm 1; Wang, Sankaran, Wang,
        Perdikaris 2023, arXiv 2308.08468; jaxpi, ``ntk``.

    Weights change when all losses that are there have been observed anew; else they rest.
    """

    initial: Tensor
    loss_weights: Tensor
    kernels: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        momentum: float = 0.9,
        pooling: Literal["mean", "trace"] = "mean",
        initial: PerLoss | float = 1.0,
        eps: float = 1e-5,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_within(0, 1, closed="low", momentum=momentum)
        check_choice("pooling", pooling, ("mean", "trace"))
        check_positive(eps=eps)
        self.momentum = momentum
        self.pooling = pooling
        self.eps = eps
        start = per_loss(initial, self.names, "initial")
        self.option("initial", start)
        self.state("resting", start)
        self.state("loss_weights", torch.full((len(self.names),), torch.nan))
        self.state("kernels", torch.full((len(self.names),), torch.nan))

    def observe(self, diagonals: Mapping[str, Tensor | Sequence[float]]) -> None:
        """Tells the diagonal of the kernel; call it whenever the weights shall change.

        Args:
            diagonals: By name, one number a point: the squared norm of the gradient of the
                residual at the point, as `ntk_diagonal` finds it.

        Raises:
            ValueError: If a name is unknown.
        """
        for name, diagonal in diagonals.items():
            if name not in self.names:
                raise ValueError(unknown_name("diagonals", name, self.names))
            numbers = torch.as_tensor(diagonal, device=self.kernels.device).detach()
            pooled = numbers.mean() if self.pooling == "mean" else numbers.sum()
            self.kernels = self.kernels.to(torch.promote_types(self.kernels.dtype, pooled.dtype))
            self.kernels[self.names.index(name)] = pooled

    def _speak_up(self, terms: Terms) -> None:
        super()._speak_up(terms)
        asked = self._calls == IDLE_STEPS and len(self.names) > 1
        if asked and bool((self.loss_weights == self.initial).all()):
            self._warn_once(
                f"NTKTrace was not told the kernel's diagonal of all losses in {IDLE_STEPS} steps, "
                "so its weights are the `initial` ones. Call `balancer.observe(diagonals)` with "
                "what `ntk_diagonal` finds, or take NTKWeights, which needs to be told nothing."
            )

    def _weigh(self, values: Tensor) -> Tensor:
        newest = inverse_weights(self.kernels.to(values.dtype), self.eps)
        if self.pooling == "trace":
            newest = len(values) * newest
        begun = ~self.loss_weights.isnan()
        last = torch.where(begun, self.loss_weights, self.initial.to(values.dtype))
        learned = self.momentum * last + (1 - self.momentum) * newest
        known = ~self.kernels.isnan().any()
        self.loss_weights = torch.where(known, learned, last)
        self.kernels = torch.where(known, torch.nan, self.kernels)
        return self.loss_weights


def ntk_diagonal(residuals: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    r"""The diagonal of the neural tangent kernel, ``K_nn = || d residual_n / d parameters ||^2``.

    Args:
        residuals: ``[N]`` of the live graph: a few dozen points are enough, each costs a pass.
        parameters: With respect to what.

    Returns:
        ``[N]``, detached. The graph is kept.

    Example:
        >>> weight = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> ntk_diagonal(torch.eye(2) @ weight * 3, [weight])
        tensor([9., 9.])
    """
    diagonal = []
    for residual in residuals.flatten():
        found = torch.autograd.grad(residual, parameters, retain_graph=True, allow_unused=True)
        norms = [part.square().sum() for part in found if part is not None]
        diagonal.append(torch.stack(norms).sum() if norms else residual.detach() * 0)
    return torch.stack(diagonal)
