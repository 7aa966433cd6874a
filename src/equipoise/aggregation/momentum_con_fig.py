"""M-ConFIG: ConFIG on the moments of gradients, one or a few of which are new (Liu et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.aggregation.con_fig import LENGTHS, Length, conflict_free
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.linalg import column_blocks
from equipoise.losses import LossNames
from equipoise.parts.checks import check_choice, check_not_negative, check_within


class MomentumConFIG(Aggregation):
    r"""ConFIG of first moments, so that a step needs the gradients of only some of the losses.

    The losses that the step has update their :math:`m_i`, seen :math:`n_i` times; all take part in

    .. math:: \hat m_i = \frac{m_i}{1 - \beta_1^{n_i}}, \qquad
        g_t = \mathrm{ConFIG}(\hat m_1, \ldots, \hat m_T)

    The second moment is that of the gradient whose first moment would be :math:`g_t`:

    .. math:: \tilde g_t = \frac{(1 - \beta_1^t)\, g_t - \beta_1 (1 - \beta_1^{t-1})\, g_{t-1}}
                                {1 - \beta_1}, \quad
        s_t = \beta_2 s_{t-1} + (1 - \beta_2) \tilde g_t^2, \quad
        d_t = \frac{g_t}{\sqrt{s_t / (1 - \beta_2^t)} + \epsilon}

    The result is scaled as Adam's step is: use it with plain SGD. It is zero until every loss was
    there once. Pass the losses of a step by name and leave the others out. Where no step has all
    losses, say with ``wrt`` what they share.

    Args:
        losses: How many losses there are, or their unique names.
        beta_1: Decay of the first moments; paper: 0.9.
        beta_2: Decay of the second moment; paper: 0.999.
        eps: Added to the root of the second moment; authors' code: 1e-8.
        length: How long ConFIG's result is, see `ConFIG`; paper: ``"projection"``.
        options: See `Aggregation`. Priorities, like any scale, do not change the balance: they
            hardly show in the direction.

    Raises:
        ValueError: If a decay is outside [0, 1), ``eps`` negative or ``length`` unknown.

    Example:
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
        >>> MomentumConFIG(["a", "b"]).combine(torch.ones(2), gradients)
        tensor([1.0000, 1.0000])

    References:
        Liu, Chu, Thuerey 2024, arXiv 2408.11104, Algorithm 1 (M-ConFIG).

    Differs from the authors' code in what `ConFIG` differs in.
    """

    looks_at: LooksAt = "gradients"
    weighting: bool = False

    place: Tensor
    seen: Tensor
    steps: Tensor
    first_moments: Tensor
    second_moment: Tensor
    previous: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        eps: float = 1e-8,
        length: Length = "projection",
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_within(0, 1, closed="low", beta_1=beta_1, beta_2=beta_2)
        check_not_negative(eps=eps)
        check_choice("length", length, LENGTHS)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.eps = eps
        self.length = length
        count = len(self.names)
        # Narrowed to the losses that are there, it tells whose moments move; all moments count.
        self.option("place", torch.arange(count))
        self.state("seen", torch.zeros(count), rests=False)
        self.state("steps", torch.zeros(()), axes=0)
        self.state("first_moments", torch.zeros(count, 0), rests=False)
        self.state("second_moment", torch.zeros(0), axes=0)
        self.state("previous", torch.zeros(0), axes=0)

    def _differs(self, name: str, saved: Tensor, exact: Tensor) -> bool:
        """Places are today's, whatever losses a checkpoint had."""
        return name != "place" and super()._differs(name, saved, exact)

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        self._move(gradients)
        second, previous = (self._sized(name, gradients) for name in ("second_moment", "previous"))
        if not bool((self.seen > 0).all()):
            return torch.zeros_like(previous)
        self.steps = self.steps + 1
        corrected = Gradients(self.first_moments).scaled(1 / (1 - self.beta_1**self.seen))
        equal = torch.ones(len(corrected))
        step = corrected.combine(conflict_free(corrected.gram(), equal, self.length))
        for block in column_blocks(step, second, previous):
            self._scale(*block)
        return step

    def _move(self, gradients: Gradients) -> None:
        """First moments of the losses that are there."""
        for rows, moments in gradients.blocks(self._sized("first_moments", gradients)):
            moved = moments[self.place].lerp(rows.to(moments.dtype), 1 - self.beta_1)
            moments[self.place] = moved
        self.seen = self.seen.index_add(0, self.place, torch.ones_like(self.seen[self.place]))

    def _scale(self, step: Tensor, second: Tensor, previous: Tensor) -> None:
        """Makes what was combined the step of an Adam whose first moment it is, in place."""
        uncorrected = (1 - self.beta_1**self.steps) * step
        pseudo = (uncorrected - self.beta_1 * previous) / (1 - self.beta_1)
        previous.copy_(uncorrected)
        second.lerp_(pseudo.square(), 1 - self.beta_2)
        root = (second / (1 - self.beta_2**self.steps)).sqrt()
        # With eps = 0 a coordinate that never moved is 0 / 0.
        step.copy_(torch.where(step == 0, 0.0, step / (root + self.eps)))
