"""Krum: only the gradients that have the nearest neighbours count (Blanchard et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.parts.checks import check_choice

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from equipoise.gradients.gradients import Gradients
    from equipoise.losses import LossNames


class Krum(Aggregation):
    r"""Averages the gradients that lie closest to their neighbours and leaves out the others.

    .. math:: s_i = \sum_{i \to j} \|g_i - g_j\|^2, \qquad
        w_i = \frac{[s_i \text{ is among the } m \text{ smallest}]}{m}

    where :math:`i \to j` are the ``T - f - 2`` nearest neighbours of ``i`` (of those losses that
    are there, and never fewer than one). Of equal scores the one with the smaller sum of all
    distances is taken.

    Args:
        losses: How many losses there are, or their unique names.
        n_byzantine: ``f``, how many gradients may be arbitrary; the paper's guarantee holds for
            ``T > 2 f + 2``.
        n_selected: ``m``, how many are averaged; paper: 1 (Krum), more is Multi-Krum.
        distance: ``"squared"`` sums squared distances (paper); ``"euclidean"`` the distances
            themselves, as in TorchJD: the choice may differ.
        options: See `Aggregation`. Here ``heads`` is ``"plain"`` unless given: the own parameters
            of a loss that is not selected would stand still.

    Raises:
        ValueError: If a number is out of range for ``T`` losses, or ``distance`` is unknown.

    Example:
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[0.0], [1.0], [2.1], [3.3], [90.0]]))
        >>> Krum(5, n_byzantine=1).weigh(torch.ones(5), gradients)
        tensor([0., 1., 0., 0., 0.])

    References:
        Blanchard, El Mhamdi, Guerraoui, Stainer 2017, NeurIPS, arXiv 1703.02757, Section 4.

    Differs from the paper in what it is used for: the gradients are those of losses, not of
    workers.
    """

    def __init__(
        self,
        losses: LossNames,
        *,
        n_byzantine: int = 0,
        n_selected: int = 1,
        distance: Literal["squared", "euclidean"] = "squared",
        **options: Unpack[AggregationOptions],
    ) -> None:
        options.setdefault("heads", "plain")
        super().__init__(losses, **options)
        count = len(self.names)
        if n_byzantine < 0 or (n_byzantine and n_byzantine > count - 3):
            raise ValueError(
                f"`n_byzantine` is {n_byzantine}; with {count} losses it lies between 0 and "
                f"{max(count - 3, 0)}."
            )
        if not 1 <= n_selected <= count:
            raise ValueError(f"`n_selected` is {n_selected}; it lies between 1 and {count}.")
        check_choice("distance", distance, ("squared", "euclidean"))
        self.n_byzantine = n_byzantine
        self.n_selected = n_selected
        self.distance = distance

    @property
    def halted_by(self) -> tuple[str, ...]:
        """Any loss: its gradient, zero too, may be the one that is chosen."""
        return self.names

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        sums = self._distances(gradients.gram()).sort(dim=1).values[:, 1:].cumsum(dim=1)
        count = len(values)
        nearest = max(count - self.n_byzantine - 2, 1)
        # The second key first: sorting is stable, so it decides between equal scores.
        order = sums[:, -1:].sum(dim=1).argsort(stable=True)
        scores = sums[:, nearest - 1 : nearest].sum(dim=1)
        order = order[scores[order].argsort(stable=True)]
        selected = min(self.n_selected, count)
        chosen = torch.zeros_like(values).index_fill(0, order[:selected], 1 / selected)
        # What is not finite must not be chosen in silence.
        return torch.where(scores.isnan().any(), torch.nan, chosen)

    def _distances(self, gram: Tensor) -> Tensor:
        squares = gram.diagonal()
        distances = (squares[:, None] + squares - gram - gram.T).clamp(min=0)
        return distances if self.distance == "squared" else distances.sqrt()
