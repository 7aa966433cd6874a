"""Neural tangent kernel weights of PINNs, from gradients of whole losses (NVIDIA PhysicsNeMo)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames


class NTKWeights(Aggregation):
    r"""Weighs losses by their inverse share of the neural tangent kernel, one row per loss.

    With :math:`\sqrt{|L_i|}` for the residual of loss ``i``,

    .. math:: w_i = \frac{\sum_j k_j}{k_i}, \qquad
        k_i = \big\| \nabla \sqrt{|L_i|} \big\| = \frac{\| \nabla L_i \|}{2 \sqrt{|L_i|}}

    The first step leaves the weights at 1, as PhysicsNeMo does until its first update.

    Args:
        losses: How many losses there are, or their unique names.
        options: See `Aggregation`. PhysicsNeMo has ``every=1000``.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> from equipoise.gradients.gradients import Gradients
        >>> gradients = Gradients(torch.tensor([[3.0, 4.0], [0.0, 15.0]]))
        >>> balancer, values = NTKWeights(2), torch.tensor([1.0, 1.0])
        >>> balancer.weigh(values, gradients)
        tensor([1., 1.])
        >>> balancer.weigh(values, gradients)
        tensor([4.0000, 1.3333])

    References:
        NVIDIA PhysicsNeMo Sym, ``loss.aggregator.NTK``, after Wang, Yu, Perdikaris 2022, arXiv
        2007.14527, Algorithm 1.

    Differs from the paper in the kernel: there it has a row for each point, and the weight is the
    ratio of traces, not of their roots; that, and jaxpi's form, is `NTKTrace`. Differs from
    PhysicsNeMo in that weights are 1 until the first update, where it has zeros, and in that a loss
    with a zero gradient has weight 1 instead of infinity.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    looks_at: LooksAt = "norms"

    met: Tensor

    def __init__(self, losses: LossNames, **options: Unpack[AggregationOptions]) -> None:
        super().__init__(losses, **options)
        self.state("met", torch.zeros(len(self.names), dtype=torch.bool))

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        norms = gradients.norms().to(values.dtype)
        kernels = torch.where(values != 0, norms / (2 * values.abs().sqrt()), 0.0)
        weights = torch.where(self.met & (kernels > 0), kernels.sum() / kernels, 1.0)
        self.met = torch.ones_like(self.met)
        return weights
