"""Causal: later times count once earlier ones are solved (Wang, Sankaran & Perdikaris)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from equipoise.parts.checks import check_positive, check_within
from equipoise.pointwise.base import ResidualLoss
from equipoise.pointwise.residuals import Index, check_count, flat, places


class Causal(ResidualLoss):
    r"""Weights over ordered chunks of time, small while what came before is unsolved.

    With :math:`L_i` the mean of the squared residuals of chunk ``i``,

    .. math::
        w_i = \exp\Big(-\varepsilon \sum_{k < i} L_k\Big), \qquad
        L = \frac{1}{C} \sum_i w_i L_i,

    without a gradient through ``w``. Once :math:`\min_i w_i > \delta`, the next
    :math:`\varepsilon` is taken; with the last one, training has `converged`.

    A chunk that a mini-batch leaves out keeps the loss that it was last seen with, and has no part
    in the mean. One that was never seen counts as unsolved: what comes after it has weight zero.

    Args:
        chunks: How many chunks of time there are, ``C``.
        eps: The causality parameters, increasing, or a single one; the paper's by default.
        delta: The weight that all must exceed, in (0, 1); the paper: 0.99.

    Raises:
        ValueError: If an argument is out of range or ``eps`` does not increase.

    Example:
        >>> causal = Causal(3, eps=1.0)
        >>> loss = causal(torch.tensor([1.0, 0.5, 2.0], requires_grad=True))
        >>> causal.weights
        tensor([1.0000, 0.3679, 0.2865])
        >>> causal.converged
        False

    References:
        Wang, Sankaran, Perdikaris 2024, Respecting causality for training physics-informed neural
        networks, arXiv 2203.07404, Algorithm 1; jaxpi has the same sum.

    Differs from PINA, whose documentation has the sum over ``k < i`` but whose code takes
    ``k <= i``: there the first chunk is held back by its own loss.
    """

    eps: Tensor
    chunk_losses: Tensor
    level: Tensor
    done: Tensor

    def __init__(
        self,
        chunks: int,
        *,
        eps: float | Sequence[float] = (0.01, 0.1, 1.0, 10.0, 100.0),
        delta: float = 0.99,
    ) -> None:
        super().__init__()
        check_count(chunks=chunks)
        check_within(0, 1, closed="neither", delta=delta)
        self.chunks = chunks
        self.delta = delta
        self.option("eps", _increasing(eps), axes=0)
        self.state("chunk_losses", torch.full((chunks,), torch.inf), axes=0)
        self.state("level", torch.zeros(()), axes=0)
        self.state("done", torch.zeros(()), axes=0)

    @property
    def converged(self) -> bool:
        """Whether all weights exceeded ``delta`` at the last ``eps``, in the last step learned."""
        return bool(self.done)

    @property
    def weights(self) -> Tensor:
        """``[chunks]``, from the losses that the chunks were last seen with."""
        return self._weigh(self.chunk_losses)

    def forward(self, residuals: Tensor, index: Index | None = None) -> Tensor:
        """The mean of the weighted losses of the chunks that are there.

        Args:
            residuals: ``[N]`` or ``[N, 1]``, with a graph. Without an index they are in order of
                time, in chunks of equal size.
            index: ``[N]`` integers: the chunk of each residual, 0 the earliest.

        Returns:
            A scalar with a graph; none leads through the weights.

        Raises:
            TypeError: If residuals are no tensor, or the index no integers.
            ValueError: If shapes or counts do not fit.
        """
        residuals = flat(residuals)
        # Half precision cannot count residuals beyond a few hundred, nor hold their squares.
        residuals = residuals.to(self.follow(residuals.detach()).dtype)
        squares, counts = self._by_chunk(residuals, index)
        losses = squares / counts.clamp_min(1)
        values = losses.detach()
        seen = counts > 0
        known = torch.where(seen, values, self.chunk_losses)
        weights = self._weigh(known)
        if self.learning:
            with torch.no_grad():
                self._learn(known, weights, values.isfinite().all())
            self._calls += 1
        return (weights * losses).sum() / seen.sum()

    def reset(self, index: Index | None = None) -> None:
        """Forgets chunks whose points were resampled, or everything, the level of eps included.

        Args:
            index: Which chunks; by default all starts afresh.

        Raises:
            ValueError: If there is no such chunk.
        """
        if index is None:
            self.reset_parameters()
            return
        numbers = torch.as_tensor(index, device=self.chunk_losses.device)
        where = places(numbers, numbers.flatten(), self.chunks, of="chunks")
        self.chunk_losses[where] = torch.inf

    def _by_chunk(self, residuals: Tensor, index: Index | None) -> tuple[Tensor, Tensor]:
        """``[chunks]`` sums of squares, and how many residuals each has."""
        if index is None:
            if len(residuals) % self.chunks:
                msg = (
                    f"{len(residuals)} residuals do not make {self.chunks} equal chunks; write "
                    "`index=`, the number of each residual's chunk."
                )
                raise ValueError(msg)
            squares = residuals.square().reshape(self.chunks, -1)
            size = squares.shape[1]
            return squares.sum(1), torch.full_like(squares[:, 0], size, requires_grad=False)
        where = places(index, residuals, self.chunks, of="chunks")
        empty = residuals.detach().new_zeros(self.chunks)
        sums = empty.index_add(0, where, residuals.square())
        return sums, empty.index_add(0, where, torch.ones_like(residuals.detach()))

    def _weigh(self, losses: Tensor) -> Tensor:
        """The formula: what lies before a chunk, never the chunk itself, holds it back."""
        before = torch.cat([torch.zeros_like(losses[:1]), losses[:-1]]).cumsum(0)
        # Gathered, because reading the level would wait for the device. A checkpoint may come from
        # a longer schedule.
        level = self.level.clamp_max(len(self.eps) - 1).long()
        eps = self.eps.gather(0, level.reshape(1))
        return torch.exp(-eps * before)

    def _learn(self, known: Tensor, weights: Tensor, finite: Tensor) -> None:
        last = len(self.eps) - 1
        solved = (weights.min() > self.delta) & finite
        done = (solved & (self.level >= last)).to(self.done.dtype)
        self.done = torch.where(finite, done, self.done)
        self.level = (self.level + solved).clamp_max(last)
        self.chunk_losses = torch.where(finite, known, self.chunk_losses)


def _increasing(eps: float | Sequence[float]) -> Tensor:
    numbers = [float(number) for number in (eps if isinstance(eps, Sequence) else [eps])]
    for number in numbers:
        check_positive(eps=number)
    if not numbers or any(a >= b for a, b in pairwise(numbers)):
        msg = f"`eps` is {numbers}; it must increase, as in (0.01, 0.1, 1.0)."
        raise ValueError(msg)
    return torch.tensor(numbers, dtype=torch.float64)
