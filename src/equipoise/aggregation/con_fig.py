"""ConFIG: the direction that makes the same angle with every gradient (Liu et al. 2024)."""

from __future__ import annotations

from functools import partial
from typing import Literal, TypeAlias, get_args

import numpy as np
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.balancer import PerLoss
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_choice, check_shares
from equipoise.parts.solve import Matrix, solve_gramian
from equipoise.solvers.scaling import unit_diagonal

Length: TypeAlias = Literal["projection", "minimum", "maximum", "harmonic"]
"""How long the update is: see `ConFIG`."""
LENGTHS: tuple[Length, ...] = get_args(Length)


class ConFIG(Aggregation):
    r"""Goes where every gradient has the same cosine, as far as all together would go.

    With the unit gradients as rows of ``U`` and :math:`u = \mathrm{unit}(U^+ p)`,

    .. math:: d = \Big( \sum_t g_t^\top u \Big)\, u

    Since :math:`U^+ p = U^\top (U U^\top)^+ p`, the Gramian is all it takes.

    Args:
        losses: How many losses there are, or their unique names.
        preference: ``p``, in what proportion the cosines are to be, one number or one per loss;
            paper: all equal.
        length: ``"projection"`` is the formula above (paper). The others are those of the authors'
            ``TrackMinimum``, ``TrackMaximum`` and ``TrackHarmonicAverage``:
            :math:`N \sum_t \cos(g_t, u)` with ``N`` the smallest, largest or harmonic mean norm.
        options: See `Aggregation`. Priorities, like any scale, do not change the balance: give a
            ``preference``. Here ``heads`` is ``"plain"`` unless given: a negative weight
            would make a loss's own parameters raise it.

    Raises:
        ValueError: If ``length`` is unknown, or ``preference`` has a negative number or only zeros.

    Example:
        >>> import torch
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
        >>> ConFIG(["a", "b"]).combine(torch.ones(2), gradients)
        tensor([2., 2.])

    References:
        Liu, Chu, Thuerey 2024, arXiv 2408.11104, equations 2 and 3.

    Differs from the authors' code, which solves with ``U`` itself, for gradients that are dependent
    up to rounding: where an eigenvalue of the cosines lies below rounding, the direction that it
    belongs to is left out. Where no direction satisfies all (two opposite gradients) the update is
    zero, and a gradient of zero is left out: the authors' two-gradient form gives NaN for both.
    """

    preference: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        preference: PerLoss | float = 1.0,
        length: Length = "projection",
        **options: Unpack[AggregationOptions],
    ) -> None:
        options.setdefault("heads", "plain")
        super().__init__(losses, **options)
        given = per_loss(preference, self.names, "preference")
        check_shares("preference", given)
        check_choice("length", length, LENGTHS)
        self.length = length
        self.option("preference", given)

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        return conflict_free(gradients.gram(), self.preference, self.length).to(values.dtype)


def conflict_free(gram: Tensor, preference: Tensor, length: Length) -> Tensor:
    """The weights of the direction whose cosines with the gradients are as preferred.

    Args:
        gram: ``[T, T]``.
        preference: ``[T]``, not negative.
        length: How long the combined gradient is.

    Returns:
        ``[T]``.
    """
    return solve_gramian(gram, partial(_weights, length=length), preference)


def _weights(gram: Matrix, preference: Matrix, length: Length, precision: float) -> Matrix:
    cosines, norms = unit_diagonal(gram)
    rounding = len(gram) * precision
    eigenvalues, vectors = np.linalg.eigh(cosines)
    kept = eigenvalues > rounding * eigenvalues[-1]
    basis = vectors[:, kept]
    coordinates = basis.T @ preference
    solution = basis @ (coordinates / eigenvalues[kept])
    # The preference, as far as the gradients span it: in exact arithmetic `cosines @ solution`.
    reached = basis @ coordinates
    square = float(solution @ reached)
    if square <= rounding * float(preference @ preference):
        return np.zeros(len(gram))
    size = _size(norms, reached / np.sqrt(square), length)
    inverse_norms = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    weights: Matrix = size / np.sqrt(square) * solution * inverse_norms
    return weights


def _size(norms: Matrix, cosines: Matrix, length: Length) -> float:
    if length == "projection":
        return float(norms @ cosines)
    if length == "harmonic":
        norm = len(norms) / float((1 / norms).sum()) if norms.all() else 0.0
    else:
        norm = float(norms.min() if length == "minimum" else norms.max())
    return norm * float(cosines.sum())
