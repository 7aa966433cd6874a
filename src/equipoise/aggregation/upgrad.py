"""UPGrad: the mean of the gradients, each made to oppose none (Quinton & Rey 2024)."""

from __future__ import annotations

import numpy as np

from equipoise.aggregation.dual_cone import DualCone
from equipoise.parts.solve import Matrix
from equipoise.solvers import dual_cone_projection


class UPGrad(DualCone):
    r"""Projects each gradient onto the dual cone of all, and combines the projections.

    .. math:: w = \sum_t \arg\min_{v \ge p_t e_t} v^\top G' v, \qquad
        G' = G / \mathrm{tr}\, G + \epsilon_{reg} I

    Args:
        losses: How many losses there are, or their unique names.
        preference: ``p``, one number or one per loss, not negative; ``None`` is the mean of the
            losses that are there (paper).
        norm_eps: Where the trace of ``G`` is below it, ``G / tr G`` counts as zero and ``w = p``;
            authors' code: 1e-4. With 0 nothing depends on the scale of the losses.
        reg_eps: :math:`\epsilon_{reg}`, added to the diagonal of the Gramian; authors' code: 1e-4.
            It is relative to the largest gradient, so that the update may oppose a gradient many
            times smaller than that; with 0 the projection is exact.
        options: See `Aggregation`.

    Raises:
        ValueError: If a number is negative.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
        >>> UPGrad(["a", "b"], reg_eps=0.0).weigh(torch.ones(2), gradients)
        tensor([1.0000, 0.7500])

    References:
        Quinton, Rey 2024, arXiv 2406.16232, Section 3.2, proposition 1.

    Differs from the authors' code in nothing but the solver, and in what is added to the diagonal
    of a Gramian in float32: ``4 T`` units of the last digit of each squared norm.
    """

    def _project(self, gram: Matrix, preference: Matrix, precision: float) -> Matrix:
        projections = dual_cone_projection(gram, np.diag(preference), precision)
        combined: Matrix = projections.sum(axis=0)
        return combined
