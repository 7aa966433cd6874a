"""DualProj: the mean gradient, made to oppose none (Lopez-Paz & Ranzato 2017)."""

from __future__ import annotations

from equipoise.aggregation.dual_cone import DualCone
from equipoise.parts.solve import Matrix
from equipoise.solvers import dual_cone_projection


class DualProj(DualCone):
    r"""Projects the mean gradient onto the dual cone of the gradients.

    .. math:: w = \arg\min_{v \ge p} v^\top G' v, \qquad
        G' = G / \mathrm{tr}\, G + \epsilon_{reg} I

    Args:
        losses: How many losses there are, or their unique names.
        preference: ``p``, one number or one per loss, not negative; ``None`` is the mean of the
            losses that are there.
        norm_eps: Where the trace of ``G`` is below it, ``G / tr G`` counts as zero and ``w = p``;
            TorchJD: 1e-4. With 0 nothing depends on the scale of the losses.
        reg_eps: :math:`\epsilon_{reg}`, added to the diagonal of the Gramian; TorchJD: 1e-4. It is
            relative to the largest gradient, so that the update may oppose a gradient many times
            smaller than that; with 0 the projection is exact.
        options: See `Aggregation`.

    Raises:
        ValueError: If a number is negative.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [-2.0, 1.0]]))
        >>> DualProj(["a", "b"], reg_eps=0.0).weigh(torch.ones(2), gradients)
        tensor([1.0000, 0.5000])

    References:
        Lopez-Paz, Ranzato 2017, arXiv 1706.08840, equation 11 (Gradient Episodic Memory); in this
        form and by this name Quinton, Rey 2024, arXiv 2406.16232.

    Differs from Gradient Episodic Memory in that the mean of all gradients is projected, not the
    gradient of the newest task; from TorchJD as `UPGrad` does.
    """

    def _project(self, gram: Matrix, preference: Matrix, precision: float) -> Matrix:
        projection: Matrix = dual_cone_projection(gram, preference, precision)
        return projection
