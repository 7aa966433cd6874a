"""Smooth Tchebycheff scalarisation (Lin et al. 2024)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.balancer import PerLoss
from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_choice, check_positive, check_shares
from equipoise.weighting.base import Weighting

_EPS = 1e-20


class STCH(Weighting):
    r"""Descends on a smooth maximum of the losses, so that the worst one leads.

    .. math:: L = \mu \log \sum_i e^{\lambda_i (L_i - z_i) / \mu}, \qquad
        w_i = \lambda_i\, \mathrm{softmax}_i\big(\lambda (L - z) / \mu\big)

    The form that the authors train networks with compares the logarithms of the losses, relative to
    their nadir :math:`n_i`, and knows neither :math:`\lambda` nor :math:`z`:

    .. math:: L = T \mu \log \sum_i e^{y_i / \mu}, \qquad
        y_i = \log(L_i / n_i + 10^{-20}), \qquad
        w_i \approx \frac{T}{L_i}\, \mathrm{softmax}_i(y / \mu)

    Args:
        losses: How many losses there are, or their unique names.
        mu: :math:`\mu`, smaller for a sharper maximum. 1 is the default of the authors' network
            training; their Pareto set learning has 0.01 on objectives scaled to [0, 1].
        preference: :math:`\lambda`, how much each loss counts under the maximum, not negative;
            default ``1/T`` each. Only for ``"plain"``.
        reference: ``z``, the ideal point that losses are counted from; default 0. Only for
            ``"plain"``.
        form: What is scalarised: the losses, ``"plain"``, or their logarithms, ``"log"``.
        warmup: How many steps to take before measuring the nadir, for ``"log"``. They descend on
            the sum of logarithms, ``w_i = 1 / (L_i + 1e-20)``. Authors: 4 epochs.
        nadir_steps: Over how many further such steps losses are averaged into the nadir, for
            ``"log"``. Authors: one epoch.
        options: See `Balancer`.

    Raises:
        ValueError: If ``mu`` is not positive, a count of steps or a preference is out of range,
            ``form`` is unknown, or a preference or reference is given with ``"log"``.

    Example:
        >>> STCH(["good", "bad"], mu=0.1).weigh(torch.tensor([1.0, 1.5]))
        tensor([0.0379, 0.4621])

    References:
        Lin, Zhang, Yang, Liu, Wang, Zhang 2024, Smooth Tchebycheff Scalarization for
        Multi-Objective Optimization, arXiv 2402.19078.

    Differs from the authors' code, for ``"log"``, in that steps are counted instead of epochs, so
    that training resumes anywhere. A nadir of exactly zero counts as 1.
    """

    preference: Tensor
    reference: Tensor
    nadir: Tensor
    steps: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        mu: float = 1.0,
        preference: PerLoss | None = None,
        reference: PerLoss | float | None = None,
        form: Literal["plain", "log"] = "plain",
        warmup: int = 0,
        nadir_steps: int = 100,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        _check_form(form, mu, warmup, nadir_steps)
        self.mu = mu
        self.form = form
        self.defined_for = "nonnegative" if form == "log" else "all"
        self.warmup = warmup
        self.nadir_steps = nadir_steps
        if form == "plain":
            self._declare_preference(preference, reference)
        elif preference is not None or reference is not None:
            msg = "`preference` and `reference` belong to form='plain'; leave them out."
            raise ValueError(msg)
        else:
            self.state("nadir", torch.zeros(len(self.names)))
            self.state("steps", torch.zeros(len(self.names)))

    def _declare_preference(
        self, preference: PerLoss | None, reference: PerLoss | float | None
    ) -> None:
        given = 1 / len(self.names) if preference is None else preference
        shares = per_loss(given, self.names, "preference")
        check_shares("preference", shares, all_zero=True)
        self.option("preference", shares)
        ideal = 0.0 if reference is None else reference
        self.option("reference", per_loss(ideal, self.names, "reference"))

    def _weigh(self, values: Tensor) -> Tensor:
        if self.form == "log":
            return self._weigh_logarithms(values)
        preference = self.preference.to(values.dtype)
        scaled = preference * (values - self.reference.to(values.dtype)) / self.mu
        return preference * torch.softmax(scaled, dim=0)

    def _weigh_logarithms(self, values: Tensor) -> Tensor:
        ready = (self.steps >= self.warmup + self.nadir_steps).all()
        nadir = torch.where(self.nadir == 0, 1.0, self.nadir)
        logs = torch.log(values / nadir + _EPS)
        smooth = len(values) * torch.softmax(logs / self.mu, dim=0) / (values + _EPS * nadir)
        self._measure_nadir(values)
        return torch.where(ready, smooth, 1 / (values + _EPS))

    def _measure_nadir(self, values: Tensor) -> None:
        """The mean of the losses over ``nadir_steps`` steps after the first ``warmup``."""
        number = self.steps - self.warmup + 1
        measuring = (number >= 1) & (number <= self.nadir_steps)
        mean = self.nadir + (values - self.nadir) / number.clamp(min=1)
        self.nadir = torch.where(measuring, mean, self.nadir)
        self.steps = self.steps + 1


def _check_form(form: str, mu: float, warmup: int, nadir_steps: int) -> None:
    check_choice("form", form, ("plain", "log"))
    check_positive(mu=mu)
    if warmup < 0 or nadir_steps < 1:
        msg = f"`warmup` is {warmup}, at least 0; `nadir_steps` is {nadir_steps}, at least 1."
        raise ValueError(msg)
