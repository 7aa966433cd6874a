"""GradDrop: gradient entries of the losing sign are dropped at random (Chen et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.autograd.targets import Wrt
from equipoise.balancer import Decide, LooksAt, Outcome, PerLoss
from equipoise.gradients.apply import BackwardPass
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.linalg import l2_norm
from equipoise.learner import Step
from equipoise.losses import LossNames, per_loss
from equipoise.parts.checks import check_not_negative, check_positive
from equipoise.parts.random import Drawing


class GradDrop(Aggregation):
    r"""Keeps, in each coordinate, the gradients of one sign: the more they agree, the likelier.

    With the positive sign purity of coordinate ``p`` and ``U_p`` uniform in [0, 1],

    .. math:: \mathcal{P}_p = \tfrac12 \Big(1 + \frac{\sum_t g_{tp}}{\sum_t |g_{tp}|}\Big), \qquad
        M_{tp} = [\mathcal{P}_p > U_p][g_{tp} > 0] + [\mathcal{P}_p < U_p][g_{tp} < 0]

    .. math:: d_p = \sum_t \big(l_t + (1 - l_t) M_{tp}\big)\, g_{tp}

    At parameters, ``p`` is one of them. The paper's own place is a layer of activations ``h``: pass
    that tensor, ``[batch, ...]``, as ``wrt``. Then :math:`\mathrm{sign}(h)\, g` summed over the
    batch takes the place of ``g`` in purity and mask, and a feature is kept or dropped for the
    whole batch.

    Args:
        losses: How many losses there are, or their unique names.
        leak: ``l_t``, what each loss lets through of what the mask drops, one number or one per
            loss in [0, 1]; paper: 0.
        eps: Added to the denominator of the purity; paper and TorchJD 0, FAMO's repository 1e-8,
            LibMTL 1e-7.
        max_norm: Scales the result down to this norm; ``None`` never does. FAMO's repository: 1.
        generator: Where ``U`` comes from, on the CPU; ``None`` makes one, seeded by torch's own.
        options: See `Aggregation`.

    Raises:
        ValueError: If a leak is outside [0, 1], ``eps`` negative or ``max_norm`` not positive.

    Example:
        >>> from equipoise import Gradients
        >>> gradients = Gradients(torch.tensor([[1.0, 2.0], [3.0, 1.0]]))
        >>> GradDrop(["a", "b"]).combine(torch.ones(2), gradients)
        tensor([4., 3.])

    References:
        Chen, Ngiam, Huang, Luong, Kretzschmar, Chai, Anguelov 2020, arXiv 2010.06808,
        Algorithm 1.

    Differs from the paper in that, without a ``wrt``, it works on the shared parameters, as TorchJD
    and FAMO's repository do. A coordinate where all gradients are zero stays zero. LibMTL has the
    paper's place only.
    """

    looks_at: LooksAt = "gradients"
    weighting: bool = False

    leak: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        leak: PerLoss | float = 0.0,
        eps: float = 0.0,
        max_norm: float | None = None,
        generator: torch.Generator | None = None,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        shares = per_loss(leak, self.names, "leak")
        if bool(((shares < 0) | (shares > 1)).any()):
            raise ValueError(f"`leak` is {leak}; a leak lies between 0 and 1.")
        check_not_negative(eps=eps)
        check_positive(max_norm=1.0 if max_norm is None else max_norm)
        self.eps = eps
        self.max_norm = max_norm
        self.drawing = Drawing(self.names, generator)
        self.option("leak", shares)
        self._activations: Tensor | None = None

    def _step(
        self, step: Step, how: BackwardPass, wrt: Wrt | None = None, decide: Decide | None = None
    ) -> Outcome:
        watched = self._wrt.unless(wrt)
        if isinstance(watched, Tensor) and not watched.is_leaf:
            self._activations = watched.detach()
        try:
            return super()._step(step, how, wrt, decide)
        finally:
            self._activations = None

    def _combine(self, values: Tensor, gradients: Gradients) -> Tensor:
        batch = 1 if self._activations is None else len(self._activations)
        size = gradients.width // batch
        uniform = self.drawing.uniform(size, gradients.like)
        return self.drop(gradients, uniform, self._activations)

    def drop(
        self, gradients: Gradients, uniform: Tensor, activations: Tensor | None = None
    ) -> Tensor:
        """The combined gradient for a given draw.

        Args:
            gradients: ``T x P``.
            uniform: One number in [0, 1] for each coordinate, or for each feature.
            activations: ``[batch, ...]`` of ``P`` elements, where the gradients are taken.

        Returns:
            ``[P]``.
        """
        if activations is None:
            return self._clipped(gradients.entrywise(self._dropped, uniform))
        samples = gradients.columns().view(len(gradients), len(activations), -1)
        signs = activations.reshape(len(activations), -1).sign()
        passed = self._passed((samples * signs).sum(dim=1), uniform)
        return self._clipped((samples * passed[:, None]).sum(dim=0).flatten())

    def _dropped(self, rows: Tensor, uniform: Tensor) -> Tensor:
        return (rows * self._passed(rows, uniform)).sum(dim=0)

    def _passed(self, signed: Tensor, uniform: Tensor) -> Tensor:
        """``l + (1 - l) M``, of the shape of the signed gradients."""
        total = signed.abs().sum(dim=0) + self.eps
        purity = (1 + signed.sum(dim=0) / torch.where(total > 0, total, 1.0)) / 2
        kept = (purity - uniform).sign() * signed > 0
        return torch.where(kept, 1.0, self.leak.to(signed.dtype)[:, None])

    def _clipped(self, combined: Tensor) -> Tensor:
        if self.max_norm is None:
            return combined
        # The small number is that of torch.nn.utils.clip_grad_norm_, which the authors call.
        factor = self.max_norm / (l2_norm([combined]) + 1e-6)
        clipped: Tensor = combined * factor.clamp(max=1.0)
        return clipped
