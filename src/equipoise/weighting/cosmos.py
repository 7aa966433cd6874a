"""COSMOS: scalarisation that keeps the losses in the preferred direction (Ruchte & Grabocka)."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from equipoise.balancer import PerLoss
from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames
from equipoise.parts.checks import check_positive
from equipoise.weighting.preference import PreferenceWeighting


class COSMOS(PreferenceWeighting):
    r"""Weighs losses by the gradient of a preferred sum that is penalised off its direction.

    .. math:: w = \frac{\partial}{\partial L}
        \big( r^\top L - \lambda \cos(r, L) \big)

    Weights may be negative: the penalty pulls the vector of losses towards ``r``.

    Args:
        losses: How many losses there are, or their unique names.
        preference: The paper's ``r``, by name or in order; default ``1 / T`` each.
        lam: The paper's :math:`\lambda`, how much the angle to the preference counts; there 0.01 to
            8, chosen for each data set, here 1.
        eps: Smallest norm of the losses in the cosine; authors' code: 1e-8.
        options: See `Balancer`.

    Raises:
        ValueError: If a preference is negative, missing or not finite, or ``eps`` not positive.

    Example:
        >>> import torch
        >>> balancer = COSMOS(["near", "far"], preference={"near": 0.5, "far": 0.5}, lam=1.0)
        >>> balancer.weigh(torch.tensor([1.0, 1.0]))
        tensor([0.5000, 0.5000])
        >>> balancer.prefer({"near": 1.0, "far": 0.0})
        >>> balancer.weigh(torch.tensor([1.0, 1.0]))
        tensor([0.6464, 0.3536])

    References:
        Ruchte, Grabocka 2021, Scalable Pareto Front Approximation for Deep Multi-Objective
        Learning, arXiv 2103.13392.

    Differs from the paper in that the preference is the user's: the paper draws it from a Dirichlet
    distribution in each step and shows it to the network, for which there is `prefer`.
    """

    def __init__(
        self,
        losses: LossNames,
        *,
        preference: PerLoss | None = None,
        lam: float = 1.0,
        eps: float = 1e-8,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, preference=preference, **options)
        check_positive(eps=eps)
        self.lam = lam
        self.eps = eps

    def _weigh(self, values: Tensor) -> Tensor:
        preference = self.preference.to(values.dtype)
        norm = values.norm().clamp(min=self.eps)
        direction = preference / preference.norm().clamp(min=self.eps)
        cosine = direction @ (values / norm)
        pull: Tensor = (direction - cosine * values / norm) / norm
        return preference - self.lam * pull
