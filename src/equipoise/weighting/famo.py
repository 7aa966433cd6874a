"""FAMO: fast adaptive multitask optimisation (Liu et al. 2023)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.balancer import PerLoss
from equipoise.learner import BalancerOptions
from equipoise.losses import Losses, LossNames, Terms, per_loss, read_losses
from equipoise.parts.checks import check_choice, check_not_negative
from equipoise.parts.notices import IDLE_STEPS
from equipoise.parts.weight_optimizer import WeightOptimizer
from equipoise.weighting.base import Weighting

_EPS = 1e-8


class FAMO(Weighting):
    r"""Learns weights with which all losses fall at the same relative rate.

    With :math:`D_i = L_i - b_i + 10^{-8}` and logits :math:`\xi`,

    .. math:: z = \mathrm{softmax}(\xi), \qquad w_i = \frac{z_i / D_i}{\sum_j z_j / D_j}

    After the step of the model the logits descend, with Adam, along

    .. math:: \nabla_i = z_i \Big(\delta_i - \sum_j z_j \delta_j\Big) + \gamma\, \xi_i, \qquad
        \delta_i = \log D_i - \log D_i^{\mathrm{after}}

    so that a loss that fell more counts less from then on. The weights sum to 1.

    Args:
        losses: How many losses there are, or their unique names.
        lr: Learning rate of the logits; authors: 0.025.
        gamma: :math:`\gamma`, weight decay of the logits; paper: 1e-3. The authors' ``famo.py`` has
            1e-2, their experiments 1e-5.
        min_losses: ``b_i``, what each loss can fall to, one number or one per loss, before
            priorities; authors: 0.
        after: Where the losses after the step come from. ``"observed"``: from `observe`, as in the
            paper; this takes one more forward pass, which ``equipoise bench`` does not count.
            ``"next_batch"``: the losses of the next step stand in for them; no further forward
            pass, more noise.
        options: See `Balancer`. Priorities, like any scale, do not change the balance.

    Raises:
        ValueError: If ``lr`` is not positive, ``gamma`` negative, or ``after`` unknown.

    Example:
        >>> model = torch.nn.Linear(2, 2)
        >>> losses_of = lambda: dict(zip("ab", model(torch.ones(2)).square(), strict=True))
        >>> optimizer, balancer = torch.optim.SGD(model.parameters(), lr=0.1), FAMO(["a", "b"])
        >>> record = balancer.backward(losses_of())
        >>> optimizer.step()
        >>> with torch.no_grad():
        ...     balancer.observe(losses_of())

    References:
        Liu, Feng, Stone, Liu 2023, FAMO: Fast Adaptive Multitask Optimization, arXiv 2306.03792,
        Algorithm 1.

    Differs from the authors' code, which clips the shared gradient to norm 1, in that it leaves the
    gradient alone; and a loss below its ``min_losses`` counts as at it, where theirs is NaN. A step
    that was not observed teaches nothing; a hundred of them bring a warning. Ludwig's "FAMO" is
    another method.
    """

    logits: Tensor
    minima: Tensor
    log_gaps: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        lr: float = 0.025,
        gamma: float = 1e-3,
        min_losses: PerLoss | float = 0.0,
        after: Literal["observed", "next_batch"] = "observed",
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_not_negative(gamma=gamma)
        check_choice("after", after, ("observed", "next_batch"))
        self.after = after
        self.optimizer = WeightOptimizer(self, "adam", lr, weight_decay=gamma)
        # Gaps to a minimum below zero are as good as any.
        self.defined_for = "nonnegative" if min_losses == 0.0 else "all"
        self.option("minima", per_loss(min_losses, self.names, "min_losses"))
        self.state("logits", torch.zeros(len(self.names)))
        self.state("log_gaps", torch.full((len(self.names),), torch.nan))
        self._stepped = False

    @property
    def halted_by(self) -> tuple[str, ...]:
        """Any loss that may fall to zero: at its minimum it takes all."""
        return self.names if self.defined_for == "nonnegative" else ()

    def observe(self, losses: Losses) -> None:
        """Tells the losses after the model's step; call it once after ``optimizer.step()``.

        A call that follows no step of the balancer changes nothing, nor does one inside `frozen`.

        Args:
            losses: The losses of the same batch, computed again, without a graph if you like.

        Raises:
            ValueError: If a name is unknown or a loss is not a scalar; see `Balancer`.
        """
        with torch.no_grad():
            terms = read_losses(losses, self.names, graphless=self.graphless)
        if not self._stepped or not self.awake:
            return
        values = self.follow(terms.values())
        with self.among(terms.present):
            after = self._as_seen(values)
            self._guarded(after, lambda: self._learn(after), lambda: self.logits)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:  # noqa: ANN401
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._stepped = not bool(self.log_gaps.isnan().all())  # a step waits for being observed

    def _speak_up(self, terms: Terms) -> None:
        super()._speak_up(terms)
        waits = self.after == "observed" and self._calls == IDLE_STEPS and len(self.names) > 1
        if waits and not bool(self.logits.any()):
            self._warn_once(
                f"FAMO was shown no losses after any of {IDLE_STEPS} steps, so it has learned "
                "nothing. Call `balancer.observe(losses)` after `optimizer.step()`, with the "
                "losses of the same batch computed again, or write after='next_batch'."
            )

    def _weigh(self, values: Tensor) -> Tensor:
        if self._stepped and self.after == "next_batch":
            self._learn(values)
        gaps = self._gaps(values)
        self.log_gaps = gaps.log()
        self._stepped = True
        weights = torch.softmax(self.logits, dim=0) / gaps
        return weights / weights.sum()

    def _learn(self, after: Tensor) -> Tensor:
        improvement = self.log_gaps - self._gaps(after).log()
        improvement = torch.where(self.log_gaps.isnan(), 0.0, improvement)
        shares = torch.softmax(self.logits, dim=0)
        gradient = shares * (improvement - (shares * improvement).sum())
        self.logits = self.optimizer.descend(self, self.logits, gradient)
        self.log_gaps = torch.full_like(after, torch.nan)
        self._stepped = False
        return self.logits

    def _gaps(self, values: Tensor) -> Tensor:
        minima = (self.minima * self.factors).to(values.dtype)
        return (values - minima).clamp(min=0) + _EPS
