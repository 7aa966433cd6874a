"""GradVac: gradients are turned until they are as similar as they use to be (Wang et al. 2021)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice, check_not_negative, check_within
from equipoise.parts.random import Drawing
from equipoise.parts.solve import Matrix
from equipoise.solvers.scaling import rounding


class GradVac(Aggregation):
    r"""Raises the cosine of two gradients to its own running average wherever it lies below.

    Starting from :math:`g_i' = g_i`, for each other ``j`` in an order drawn for ``i``, with
    :math:`\phi = \cos(g_i', g_j)` and its target :math:`\hat\phi_{ij}`, if
    :math:`\phi < \hat\phi_{ij}` then

    .. math:: g_i' \leftarrow g_i' + \frac{\|g_i'\| \big(\hat\phi_{ij} \sqrt{1 - \phi^2}
        - \phi \sqrt{1 - \hat\phi_{ij}^2}\big)}{\|g_j\| \sqrt{1 - \hat\phi_{ij}^2}}\, g_j

    and in any case :math:`\hat\phi_{ij} \leftarrow (1 - \beta) \hat\phi_{ij} + \beta \phi`. The
    result is :math:`\sum_i g_i'`. Every :math:`g_i'` is a combination of the gradients, so that the
    Gramian is all it takes.

    Args:
        losses: How many losses there are, or their unique names.
        beta: Decay of the targets, in [0, 1]; paper: 0.01. TorchJD and LibMTL: 0.5.
        eps: Added to both denominators; TorchJD and LibMTL 1e-8.
        granularity: ``"model"`` compares whole gradients; ``"tensor"`` each parameter tensor's part
            on its own, in the same order, and then the result is no weighting of the losses.
        generator: Where orders come from, on the CPU; ``None`` makes one, seeded by torch's own.
        options: See `Aggregation`.

    Raises:
        ValueError: If a choice is unknown or a number out of range.

    Example:
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
        >>> GradVac(["a", "b"]).weigh(torch.ones(2), gradients)
        tensor([2.0000, 1.5000])

    References:
        Wang, Tsvetkov, Firat, Cao 2021, arXiv 2010.05874, Algorithm 1.

    Differs from the paper in ``eps``, which changes an update by 17 percent where norms are 1e-4 (0
    is the paper's letter). A gradient of zero is left alone; one that has been turned until it
    cancels below rounding is turned no more, and targets stay within [-1, 1]. Differs from LibMTL
    in that anti-parallel gradients in float32 give no NaN.
    """

    targets: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        beta: float = 0.01,
        eps: float = 1e-8,
        granularity: Literal["model", "tensor"] = "model",
        generator: torch.Generator | None = None,
        **options: Unpack[AggregationOptions],
    ) -> None:
        check_choice("granularity", granularity, ("model", "tensor"))
        # The kind of result is a choice here, and the base asks for it at construction.
        self.weighting = granularity == "model"
        if granularity == "tensor":
            self.looks_at = "gradients"
        super().__init__(losses, **options)
        check_within(0, 1, beta=beta)
        check_not_negative(eps=eps)
        self.beta = beta
        self.eps = eps
        self.granularity = granularity
        self.drawing = Drawing(self.names, generator)
        count = len(self.names)
        self.state("targets", torch.zeros(count, count, int(self.weighting)), axes=2)

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        weights = self.vaccinate(gradients.gram()[None], self._orders(len(values)))
        return weights[0].to(values)

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        parts = gradients.tensors()
        grams = torch.stack([part.gram() for part in parts])
        weights = self.vaccinate(grams, self._orders(len(values))).to(grams)
        return torch.cat([part.combine(w) for w, part in zip(weights, parts, strict=True)])

    def _orders(self, count: int) -> Tensor:
        keys = self.drawing.draw(
            lambda source: torch.rand(count, count, generator=source), torch.ones(())
        )
        return keys.argsort(dim=1)

    def vaccinate(self, grams: Tensor, orders: Tensor) -> Tensor:
        """The weights for given orders; moves the targets.

        Args:
            grams: ``[K, T, T]``, the Gramian of each of ``K`` tensors.
            orders: ``[T, T]`` or ``[T, T - 1]``, row ``i`` the order in which gradient ``i`` visits
                the others.

        Returns:
            ``[K, T]``, float64 on the CPU.
        """
        if self.targets.shape[-1] != len(grams):
            self.targets = self.targets.new_zeros(*self.targets.shape[:2], len(grams))
        given = torch.stack([grams.double(), self.targets.permute(2, 0, 1).to(grams).double()])
        gram, goals = given.cpu().numpy()
        goals = goals.clip(-1, 1)  # a checkpoint may hold what is no cosine
        weights = np.zeros(gram.shape[:2])
        if not np.isfinite(gram).all():
            return torch.from_numpy(weights + np.nan)
        for i, order in enumerate(orders.tolist()):
            others = [j for j in order if j != i]
            weights += self._vaccinated(gram, goals, i, others, torch.finfo(grams.dtype).eps)
        self.targets = torch.from_numpy(goals).permute(1, 2, 0).to(self.targets)
        return torch.from_numpy(weights)

    def _vaccinated(
        self, gram: Matrix, goals: Matrix, i: int, order: list[int], precision: float
    ) -> Matrix:
        """``[K, T]``, the coefficients of gradient ``i`` when it has visited the others.

        Where what it has become cancels below rounding, its direction is not known: it is turned no
        more, and no target learns from it.
        """
        margin = rounding(len(goals[0]), precision)
        norms = np.sqrt(gram.diagonal(axis1=1, axis2=2))
        mixed = np.zeros_like(norms)
        mixed[:, i] = 1.0
        for j in order:
            products = np.einsum("kt,ktu->ku", mixed, gram)
            length = np.sqrt(np.maximum((products * mixed).sum(axis=1), 0.0))
            known = length >= np.sqrt(margin) * (np.abs(mixed) * norms).sum(axis=1)
            cosine = _cosine(products[:, j], length * norms[:, j] + self.eps)
            goal = goals[:, i, j].clip(margin - 1, 1 - margin)
            sine, goal_sine = _sine(cosine), _sine(goal)
            turn = length * (goal * sine - cosine * goal_sine)
            divisor = norms[:, j] * goal_sine + self.eps
            turns = known & (cosine < goal) & (norms[:, j] > 0)
            mixed[:, j] += np.where(turns, turn / divisor, 0.0)
            learned = (1 - self.beta) * goals[:, i, j] + self.beta * cosine
            goals[:, i, j] = np.where(known, learned, goals[:, i, j])
        return mixed


def _cosine(products: Matrix, lengths: Matrix) -> Matrix:
    cosine = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return cosine.clip(-1, 1)


def _sine(cosine: Matrix) -> Matrix:
    sine: Matrix = np.sqrt(np.maximum(1 - cosine**2, 0.0))
    return sine
