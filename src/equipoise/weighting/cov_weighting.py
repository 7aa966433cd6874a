"""CoV-Weighting: weights from coefficients of variation (Groenendijk et al. 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames
from equipoise.weighting.base import Weighting

_EPS = 1e-8


class CoVWeighting(Weighting):
    r"""Weighs losses by how much their ratio to their own mean varies: a settled loss counts less.

    With :math:`\ell_i(t) = L_i(t) / \mu_{L_i}(t-1)` and its mean and deviation so far,

    .. math:: w_i(t) = \frac{c_i}{\sum_j c_j}, \qquad
        c_i = \frac{\sigma_{\ell_i}(t-1)}{\mu_{\ell_i}(t-1)}

    The weights sum to 1; they are ``1/T`` in the first two steps.

    Args:
        losses: How many losses there are, or their unique names.
        decay: How much the past counts in the two means, in [0, 1); ``None``, as in the paper's
            best runs, takes the means over all steps. The deviation always runs over all steps.
        options: See `Balancer`.

    Raises:
        ValueError: If ``decay`` is out of range.

    Example:
        >>> balancer = CoVWeighting(["steady", "varying"])
        >>> for values in ([1.0, 1.0], [1.1, 2.0], [1.0, 1.0]):
        ...     print(balancer.weigh(torch.tensor(values)))
        tensor([0.5000, 0.5000])
        tensor([0.5000, 0.5000])
        tensor([0.1250, 0.8750])

    References:
        Groenendijk, Karaoglu, Gevers, Mensink 2021, Multi-Loss Weighting with Coefficient of
        Variations, WACV, arXiv 2009.01717.

    As in the authors' code the weights lag a step, the variance is that of the population, and 1e-8
    stands under its root. Differs from it in that a decay of 1, its default there, is refused: it
    keeps the means at the first values. A loss whose mean is exactly zero has ratio 1.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    steps: Tensor
    mean_losses: Tensor
    mean_ratios: Tensor
    squares: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        decay: float | None = None,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        if decay is not None and not 0 <= decay < 1:
            msg = (
                f"`decay` is {decay}; it must lie in [0, 1), or be None for the mean of all steps."
            )
            raise ValueError(msg)
        self.decay = decay
        for name in ("steps", "mean_losses", "mean_ratios", "squares"):
            self.state(name, torch.zeros(len(self.names)))

    def _weigh(self, values: Tensor) -> Tensor:
        weights = self._from_the_past()
        ratios = torch.where(self.mean_losses != 0, values / self.mean_losses, 1.0)
        past = self._past()
        mean = past * self.mean_ratios + (1 - past) * ratios
        self.squares = self.squares + (ratios - self.mean_ratios) * (ratios - mean)
        self.mean_ratios = mean
        self.mean_losses = past * self.mean_losses + (1 - past) * values
        self.steps = self.steps + 1
        return weights

    def _past(self) -> Tensor:
        """How much the past counts in the means; not at all in the first step."""
        if self.decay is None:
            return self.steps / (self.steps + 1)
        return torch.where(self.steps == 0, 0.0, torch.full_like(self.steps, self.decay))

    @property
    def deviations(self) -> Tensor:
        """``[T]`` standard deviations of the ratios so far."""
        return (self.squares / self.steps.clamp(min=1) + _EPS).sqrt()

    def _from_the_past(self) -> Tensor:
        known = (self.steps > 1).all()
        # Absolute, so that losses whose sign changes get no negative share.
        variations = self.deviations / torch.where(known, self.mean_ratios.abs(), 1.0)
        return torch.where(known, variations / variations.sum(), 1 / len(variations))
