"""Residual-based attention, RBA (Anagnostopoulos et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.parts.checks import check_not_negative, check_positive
from equipoise.pointwise.base import Pointwise


class ResidualAttention(Pointwise):
    r"""Weighs each point by a decaying sum of its past residuals, without any gradient.

    .. math::

        \lambda_j \leftarrow \gamma \lambda_j + \eta \frac{|r_j|}{\max_k |r_k|}, \qquad
        L = \frac{1}{N} \sum_j (\lambda_j r_j)^2

    with the maximum over the points of this call. Weights lie in ``[0, eta / (1 - gamma)]``.

    Args:
        points: How many points there are, ``P``.
        gamma: :math:`\gamma`, how much of a weight stays, in [0, 1]; paper: 0.999.
        eta: :math:`\eta`, what a step adds to the weight of the worst point; paper: 0.01, authors'
            code also 0.001.
        initial: :math:`\lambda` before the first step; paper: 0.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> attention = ResidualAttention(2, gamma=0.5, eta=1.0)
        >>> attention(torch.tensor([2.0, 1.0]))
        tensor(2.1250)
        >>> attention.weights
        tensor([1.0000, 0.5000])

    References:
        Anagnostopoulos, Toscano, Stergiopulos, Karniadakis 2023, arXiv 2307.00379, equation 6.

    Differs: in nothing known. PINA's solver of that name weighs :math:`\lambda_j r_j^2`.
    """

    weights: Tensor

    def __init__(
        self, points: int, *, gamma: float = 0.999, eta: float = 0.01, initial: float = 0.0
    ) -> None:
        super().__init__(points)
        check_not_negative(gamma=gamma, initial=initial)
        check_positive(eta=eta)
        if gamma > 1:
            msg = f"`gamma` is {gamma}; it is how much of a weight stays, at most 1."
            raise ValueError(msg)
        self.gamma = gamma
        self.eta = eta
        self.state("weights", torch.full((points,), initial))

    def _learn(self, residuals: Tensor, places: Tensor) -> None:
        finite = residuals.isfinite()
        sizes = torch.where(finite, residuals.abs(), 0.0).to(self.weights.dtype)
        largest = sizes.max()
        ratios = torch.where(largest > 0, sizes / largest, sizes)
        before = self.weights[places]
        self.weights[places] = torch.where(finite, self.gamma * before + self.eta * ratios, before)

    def _loss(self, residuals: Tensor, places: Tensor) -> Tensor:
        return (self.weights[places] * residuals).square().mean()
