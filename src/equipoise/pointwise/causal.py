"""Causal weights of ordered chunks of time (Wang, Sankaran & Perdikaris 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from equipoise.parts.checks import check_not_negative


class Causal(nn.Module):
    r"""Lets a chunk of time count only as far as all earlier ones are solved.

    .. math::

        L = \frac{1}{M} \sum_{i=1}^{M} w_i L_i, \qquad
        w_i = \exp\Big( -\epsilon \sum_{k < i} L_k \Big)

    without a gradient through the weights. Once all weights exceed ``delta`` the next, larger
    :math:`\epsilon` takes over; with the last one, training has converged.

    Args:
        chunks: How many chunks, ``M``, in the order of time.
        eps: :math:`\epsilon`, one or several that follow each other; paper: 0.01, 0.1, 1, 10, 100.
            Losses that are means over many points of a chunk suit it; another scale wants another.
        delta: :math:`\delta`, above which the smallest weight ends an :math:`\epsilon`; paper:
            0.99.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> causal = Causal(2, eps=1.0)
        >>> causal(torch.tensor([0.0, 3.0, 1.0, 1.0]))  # mean squares: 4.5 and 1
        tensor(2.2556)
        >>> causal.weights
        tensor([1.0000, 0.0111])

    References:
        Wang, Sankaran, Perdikaris 2022, arXiv 2203.07404, equations 3.6 to 3.8, Algorithm 1.

    Differs: in nothing known. PINA's solver of that name sums over :math:`k \le i`, so that the
    first chunk is held back by itself.
    """

    weights: Tensor
    stage: Tensor
    done: Tensor

    def __init__(
        self,
        chunks: int,
        *,
        eps: float | Sequence[float] = (0.01, 0.1, 1.0, 10.0, 100.0),
        delta: float = 0.99,
    ) -> None:
        super().__init__()
        if isinstance(chunks, bool) or not isinstance(chunks, int) or chunks < 1:
            msg = f"`chunks` is {chunks!r}; it is how many chunks of time there are, at least 1."
            raise ValueError(msg)
        check_not_negative(delta=delta)
        values = [float(eps)] if isinstance(eps, int | float) else [float(value) for value in eps]
        if not values or min(values) < 0:
            msg = f"`eps` is {eps!r}; give one number of at least 0, or several that grow."
            raise ValueError(msg)
        self.chunks = chunks
        self.eps = tuple(values)
        self.delta = delta
        self.register_buffer("weights", torch.ones(chunks))
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))
        self.register_buffer("done", torch.zeros((), dtype=torch.bool))

    @property
    def converged(self) -> bool:
        """Whether all weights exceeded ``delta`` with the last ``eps``; reading synchronises."""
        return bool(self.done)

    def forward(self, residuals: Tensor) -> Tensor:
        """The loss of all chunks.

        Args:
            residuals: ``[N]``, of points in the order of time, cut into ``M`` chunks of nearly the
                same size; or ``[M, n]``, one row per chunk.

        Returns:
            A scalar, for ``backward()`` or as one of a balancer's losses.

        Raises:
            ValueError: If there are fewer points than chunks, or another number of rows.
        """
        losses = self._losses(residuals)
        weights = self._weights(losses.detach())
        if self.training and torch.is_grad_enabled():
            self._advance(weights)
        return (weights.to(losses.dtype) * losses).mean()

    def _losses(self, residuals: Tensor) -> Tensor:
        """The mean square of each chunk, ``[M]``."""
        rows = list(residuals) if residuals.ndim else []
        if residuals.ndim == 1 and len(residuals) >= self.chunks:
            rows = list(residuals.tensor_split(self.chunks))
        if len(rows) != self.chunks or residuals.ndim > 2:
            msg = (
                f"Got residuals of shape {tuple(residuals.shape)} for {self.chunks} chunks; give "
                f"[N] in the order of time, N at least {self.chunks}, or [{self.chunks}, n]."
            )
            raise ValueError(msg)
        return torch.stack([row.square().mean() for row in rows])

    def _weights(self, losses: Tensor) -> Tensor:
        if self.weights.device != losses.device:
            self.to(losses.device)
        eps = losses.new_tensor(self.eps)[self.stage]
        earlier = torch.cat([losses.new_zeros(1), losses[:-1].cumsum(dim=0)])
        return torch.exp(-eps * earlier)

    def _advance(self, weights: Tensor) -> None:
        finite = weights.isfinite().all()
        kept = weights.to(self.weights.dtype)
        self.weights.copy_(torch.where(finite, kept, self.weights))
        solved = finite & (weights.min() > self.delta)
        last = self.stage == len(self.eps) - 1
        self.done |= solved & last
        self.stage += (solved & ~last).long()
