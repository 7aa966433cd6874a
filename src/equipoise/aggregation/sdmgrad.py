"""SDMGrad: MGDA held near a preferred direction, on independent batches (Xiao et al. 2023)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import AggregationOptions
from equipoise.aggregation.observing import ObservingAggregation
from equipoise.balancer import PerLoss
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_not_negative, check_positive, check_within
from equipoise.parts.solve import Matrix, solve
from equipoise.solvers.simplex import simplex_projection


class SDMGrad(ObservingAggregation):
    r"""Descends on weights of MGDA with a pull towards a preferred direction, and mixes both.

    With :math:`A = J_1 J_2^\top / (s^2 + 10^{-8})`,
    :math:`s = \mathrm{mean}_t \sqrt{\max(\langle g_t^{(1)}, g_t^{(2)} \rangle, 0)}`, some steps of
    projected gradient descent with momentum from the last ``w``,

    .. math:: w \leftarrow \Pi_\Delta\big( w - \eta\, A\,(w + \lambda p) \big), \qquad
        d = J_3^\top \frac{w + \lambda p}{1 + \lambda}

    ``J_1`` and ``J_2`` are of the two batches shown to `observe`, ``J_3`` is of the losses that
    ``backward`` is called with. Shown one batch only, the step's own is the second; shown none, it
    is both. The weights sum to 1 if those of ``p`` do.

    Args:
        losses: How many losses there are, or their unique names.
        lambda_: :math:`\lambda`, how strongly the direction is held to ``preference``, not
            negative; LibMTL and TorchJD: 0.3. Authors' class: 0.6.
        preference: ``p``, one number or one per loss; ``None`` (paper) is the mean of the losses
            that are there.
        lr: :math:`\eta`, the step size of the descent on ``w``; authors' code and TorchJD: 10.
            LibMTL: 5.
        momentum: Of the descent on ``w``, restarted each step; authors' code: 0.5.
        n_iter: How many descent steps on ``w``; authors' code: 20.
        options: See `Aggregation`. Here ``heads`` is ``"plain"`` unless given, as in LibMTL: the
            own parameters of a loss of weight zero would stand still.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> SDMGrad(["a", "b"]).weigh(torch.ones(2), gradients)
        tensor([0.5000, 0.5000])

    References:
        Xiao, Ban, Ji 2023, arXiv 2305.18409, Algorithm 1.

    Differs from the authors' code, which keeps its three batches in one and the same tensor, and
    has 1e-4 under the root of ``s``. With its learning rate ``w`` jumps between corners of the
    simplex: that is the method as published.
    """

    descended: Tensor
    preference: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        lambda_: float = 0.3,
        preference: PerLoss | float | None = None,
        lr: float = 10.0,
        momentum: float = 0.5,
        n_iter: int = 20,
        **options: Unpack[AggregationOptions],
    ) -> None:
        options.setdefault("heads", "plain")
        super().__init__(losses, **options)
        check_not_negative(lambda_=lambda_)
        check_positive(lr=lr, n_iter=n_iter)
        check_within(0, 1, closed="low", momentum=momentum)
        self.lambda_ = lambda_
        self.lr = lr
        self.momentum = momentum
        self.n_iter = n_iter
        self.averages = preference is None
        count = len(self.names)
        given = per_loss(1.0 if preference is None else preference, self.names, "preference")
        self.option("preference", given)
        self.state("descended", torch.full((count,), 1 / count, dtype=torch.float64))

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        products = self._products(gradients).double()
        preference = self.preference
        preference = preference / len(preference) if self.averages else preference
        given = torch.cat([products, preference[None], self.descended[None]])
        self.descended = solve(given, self._iterate).to(values.dtype)
        mixed = (self.descended + self.lambda_ * preference) / (1 + self.lambda_)
        return mixed.to(values.dtype)

    def _iterate(self, given: Matrix) -> Matrix:
        """``w``, from the products of two batches with ``p`` and the last ``w`` below them."""
        products, preference = given[:-2], given[-2]
        w: Matrix = given[-1]
        scale = np.sqrt(np.maximum(products.diagonal(), 0.0)).mean()
        products = products / (scale**2 + 1e-8)
        velocity = np.zeros_like(w)
        for _ in range(self.n_iter):
            velocity = self.momentum * velocity + products @ (w + self.lambda_ * preference)
            w = simplex_projection(w - self.lr * velocity)
        return w
