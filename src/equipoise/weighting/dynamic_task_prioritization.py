"""Dynamic Task Prioritization (Guo et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.balancer import PerLoss
from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames, Terms, per_loss
from equipoise.parts.checks import check_shares, check_within
from equipoise.weighting.base import Weighting
from equipoise.words import unknown_name

SOON = 100
"""Steps without an index of a task after which `DynamicTaskPrioritization` asks for one."""


class DynamicTaskPrioritization(Weighting):
    r"""Weighs losses by how badly their tasks do: a task with a low key performance index leads.

    .. math:: w_i = -(1 - \bar\kappa_i)^{\gamma_i} \log \bar\kappa_i, \qquad
        \bar\kappa_i \leftarrow \alpha \kappa_i + (1 - \alpha) \bar\kappa_i

    Args:
        losses: How many losses there are, or their unique names.
        alpha: How much the newest index counts, in (0, 1].
        gamma: Focus on hard tasks, one number or one per loss, at least 0.
        floor: Indices below it count as it: at 0 the weight would be infinite.
        options: See `Balancer`.

    Raises:
        ValueError: If ``alpha``, ``gamma`` or ``floor`` is out of range.

    Example:
        >>> balancer = DynamicTaskPrioritization(["easy", "hard"], gamma=1.0)
        >>> balancer.observe({"easy": 0.9, "hard": 0.2})
        >>> balancer.weigh(torch.tensor([0.1, 1.0]))
        tensor([0.0105, 1.2876])

    References:
        Guo, Haque, Huang, Yeung, Fei-Fei 2018, Dynamic Task Prioritization for Multitask Learning,
        ECCV, equations 2 to 4.

    Differs from the paper in that the example-level focal loss inside each task is the user's; the
    average starts at the first index, of which the paper says nothing. Until an index of each loss
    that is there was observed, all weights are 1.
    """

    kpis: Tensor
    gamma: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        alpha: float = 0.9,
        gamma: PerLoss | float = 2.0,
        floor: float = 1e-3,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_within(0, 1, closed="high", alpha=alpha)
        check_within(0, 1, closed="neither", floor=floor)
        exponents = per_loss(gamma, self.names, "gamma")
        check_shares("gamma", exponents, all_zero=True)
        self.alpha = alpha
        self.floor = floor
        self.option("gamma", exponents)
        self.state("kpis", torch.full((len(self.names),), torch.nan))

    def observe(self, kpis: Mapping[str, float]) -> None:
        """Tells how the tasks do; call it after each validation, or with training accuracies.

        Args:
            kpis: An index in [0, 1] by name, higher is better; a loss may be left out.

        Raises:
            ValueError: If a name is unknown or an index lies outside [0, 1].
        """
        for name, kpi in kpis.items():
            if name not in self.names:
                raise ValueError(unknown_name("kpis", name, self.names))
            if not 0 <= kpi <= 1:
                msg = f"The index of {name!r} is {kpi}; it must lie in [0, 1]."
                raise ValueError(msg)
        given = [kpis.get(name, torch.nan) for name in self.names]
        newest = self.kpis.new_tensor(given, dtype=torch.float64)
        known = self.kpis.double()
        mean = torch.where(known.isnan(), newest, self.alpha * newest + (1 - self.alpha) * known)
        self.kpis = torch.where(newest.isnan(), known, mean).to(self.kpis.dtype)

    def _speak_up(self, terms: Terms) -> None:
        super()._speak_up(terms)
        kpis = zip(self.names, self.kpis.isnan().tolist(), strict=True)
        missing = [name for name, unknown in kpis if unknown] if self._calls == SOON else []
        if missing:
            self._warn_once(
                "DynamicTaskPrioritization knows no key performance index of "
                f"{', '.join(map(repr, missing))}, so all weights stay 1. Tell it how the tasks "
                f"do, for example `balancer.observe({{{missing[0]!r}: 0.8}})` after a validation."
            )

    def _weigh(self, values: Tensor) -> Tensor:
        kpis = self.kpis.clamp(min=self.floor)
        weights = -((1 - kpis) ** self.gamma) * kpis.log()
        return torch.where(self.kpis.isnan().any(), torch.ones_like(values), weights)
