"""Dynamic Weight Average (Liu, Johns & Davison 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from equipoise.parts.checks import check_choice, check_positive, check_steps
from equipoise.weighting.base import Weighting

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from equipoise.learner import BalancerOptions
    from equipoise.losses import LossNames, Terms

LONG = 1000
"""Steps without the end of an epoch after which `DWA` asks for one."""


class DWA(Weighting):
    r"""Weighs losses by how slowly they fell over the last two epochs: the slowest most.

    With :math:`A_i(e)` the mean of loss ``i`` over epoch ``e``,

    .. math:: w_i = T \,\mathrm{softmax}_i(r_i / \tau), \qquad r_i = \frac{A_i(e-1)}{A_i(e-2)}

    throughout epoch ``e``; all weights are 1 in the first two epochs. The weights sum to ``T``.

    Args:
        losses: How many losses there are, or their unique names.
        temperature: :math:`\tau`, larger for more even weights; paper: 2.
        window: How many steps an epoch lasts, 25 in nash-mtl; `end_epoch` ends it earlier. With
            ``None`` only `end_epoch` ends it, and without a call the weights stay 1.
        windows: ``"consecutive"`` epochs follow each other, as in the paper. ``"sliding"`` computes
            what nash-mtl does at every step: the mean of the last ``window`` losses, the current
            one included, over the mean of the ``window`` before, which start as ones; its weights
            sum to 1.
        options: See `Balancer`.

    Raises:
        ValueError: If ``temperature`` or ``window`` is not positive, ``windows`` is unknown, or
            sliding windows have no length.

    Example:
        >>> balancer = DWA(["falling", "stalling"], window=1)
        >>> for values in ([2.0, 1.0], [1.0, 1.0], [0.5, 1.0]):
        ...     print(balancer.weigh(torch.tensor(values)))
        tensor([1., 1.])
        tensor([1., 1.])
        tensor([0.8756, 1.1244])

    References:
        Liu, Johns, Davison 2019, End-to-End Multi-Task Learning with Attention, arXiv 1803.10704,
        equation 7.

    Differs from the paper in that epochs may be windows of steps. A loss counts the steps in which
    it was there. The ratio of a loss whose older mean is exactly zero is 1.
    """

    defined_for: Literal["all", "nonnegative"] = "nonnegative"

    mean: Tensor
    count: Tensor
    previous: Tensor
    before_previous: Tensor
    history: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        temperature: float = 2.0,
        window: int | None = 25,
        windows: Literal["consecutive", "sliding"] = "consecutive",
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_positive(temperature=temperature)
        check_steps(window=window)
        check_choice("windows", windows, ("consecutive", "sliding"))
        self.temperature = temperature
        self.window = window
        self.windows = windows
        self._declare(len(self.names))

    def _declare(self, count: int) -> None:
        self.state("count", torch.zeros(count))
        if self.windows == "consecutive":
            self.state("mean", torch.zeros(count))
            self.state("previous", torch.full((count,), torch.nan))
            self.state("before_previous", torch.full((count,), torch.nan))
        elif self.window is None:
            msg = "`window` is None; windows that slide need a number of steps, for example 25."
            raise ValueError(msg)
        else:
            self.state("history", torch.ones(count, 2 * self.window))

    def end_epoch(self) -> None:
        """Ends the epoch: its means are what the next two epochs' weights are computed from.

        An epoch in which a loss never was leaves that loss's means as they were.

        Raises:
            RuntimeError: If windows slide: they have no end.
        """
        if self.windows == "sliding":
            msg = "Sliding windows have no end; build DWA with windows='consecutive'."
            raise RuntimeError(msg)
        self._close(self.count > 0)

    def _speak_up(self, terms: Terms) -> None:
        super()._speak_up(terms)
        asked = self.windows == "consecutive" and self.window is None
        if asked and self._calls == LONG and bool(self.previous.isnan().all()):
            self._warn_once(
                f"DWA(window=None) has seen {LONG} steps and no end of an epoch, so all weights "
                "stay 1. Call `balancer.end_epoch()` after each epoch, or give a `window` of steps."
            )

    def _close(self, ended: Tensor) -> None:
        self.before_previous = torch.where(ended, self.previous, self.before_previous)
        self.previous = torch.where(ended, self.mean, self.previous)
        self.count = torch.where(ended, 0.0, self.count)
        self.mean = torch.where(ended, 0.0, self.mean)

    def _weigh(self, values: Tensor) -> Tensor:
        return self._slide(values) if self.windows == "sliding" else self._follow_epochs(values)

    def _follow_epochs(self, values: Tensor) -> Tensor:
        known = ~self.before_previous.isnan().any()
        weights = len(values) * self._softmax(self.previous, self.before_previous)
        self.count = self.count + 1
        self.mean = self.mean + (values - self.mean) / self.count
        if self.window is not None:
            self._close(self.count >= self.window)
        return torch.where(known, weights, 1.0)

    def _slide(self, values: Tensor) -> Tensor:
        self.history = torch.cat([self.history[:, 1:], values[:, None]], dim=1)
        self.count = self.count + 1
        older, newer = self.history.chunk(2, dim=1)
        weights = self._softmax(newer.mean(dim=1), older.mean(dim=1))
        known = (self.count > older.shape[1] + 1).all()
        return torch.where(known, weights, 1 / len(values))

    def _softmax(self, newer: Tensor, older: Tensor) -> Tensor:
        ratios = torch.where(older != 0, newer / older, 1.0)
        return torch.softmax(ratios / self.temperature, dim=0)
