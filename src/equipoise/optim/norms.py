"""MTAdam's balance: averages of the gradient norms, and what each gradient is scaled with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.gradients import linalg as blocks

THRESHOLD = 1e-10
"""Up to this norm a loss counts as silent: it is not scaled, and it is nobody's anchor."""

UNMEASURED = -1.0
"""The norm of a loss that no step has had yet."""


def tensor_norms(gradients: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """The L2 norm of each gradient; 0 where the loss does not reach the parameter.

    Args:
        gradients: ``n`` gradients, on one device and of one dtype.
        like: Its dtype and device are the result's.

    Returns:
        ``[n]``.
    """
    reached = [gradient for gradient in gradients if gradient is not None]
    if not reached:
        return like.new_zeros(len(gradients))
    # A norm in float16 overflows at 65504, so it is taken in the dtype of the averages.
    norms = blocks.tensor_norms(reached, like.dtype)
    if len(reached) < len(gradients):
        measured, zero = iter(norms), like.new_zeros(())
        norms = [zero if gradient is None else next(measured) for gradient in gradients]
    return torch.stack(norms).to(like)


def unit_norms(norms: Tensor, units: Tensor | None) -> Tensor:
    """The norm over each tensor's unit (its layer, its group or everything), given to each tensor.

    Args:
        norms: ``[n]``, the norm of each tensor.
        units: ``[n]``, the number of the unit of each tensor, below ``n``; ``None`` where each
            tensor is its own.

    Returns:
        ``[n]``.
    """
    if units is None:
        return norms
    # Squares of what is at most one can neither overflow nor lose the largest.
    largest = norms.amax().clamp_min(torch.finfo(norms.dtype).tiny)
    squares = torch.zeros_like(norms).index_add_(0, units, (norms / largest).square())
    return squares.sqrt()[units] * largest


class Balance:
    """The scales of one step, loss by loss in order.

    ``N_i = beta3 N_i + (1 - beta3) ||g_i||``, started at the first ``||g_i||``; then ``g_i`` is
    scaled with ``rank_i N_a / N_i``, where ``a`` is the first loss up to ``i`` with
    ``N_a > 1e-10``: the anchor.

    Args:
        norms: ``[T, n]``, the averages before this step; left as they are.
        beta3: ``[n]``, or one number.
    """

    def __init__(self, norms: Tensor, beta3: Tensor | float) -> None:
        self.norms = norms.clone()
        self._beta3 = beta3
        self._anchor = norms.new_zeros(norms.shape[1])

    def rest(self, loss: int) -> None:
        """A loss that this step does not have keeps its norms, and may still be the anchor."""
        self._offer_anchor(self.norms[loss])

    def scale(self, loss: int, measured: Tensor, rank: float, keep: Tensor | None) -> Tensor:
        """Takes in the norms of one loss and returns what its gradients are multiplied with.

        Args:
            loss: Its position.
            measured: ``[n]`` norms of this step.
            rank: How large its share is to be, relative to the anchor's.
            keep: A boolean scalar; where it is false the loss rests.

        Returns:
            ``[n]``.
        """
        before = self.norms[loss]
        mean = self._beta3 * before + (1 - self._beta3) * measured
        norm = torch.where(before < 0, measured, mean)
        if keep is not None:
            norm = torch.where(keep, norm, before)
        self.norms[loss] = norm
        self._offer_anchor(norm)
        return torch.where(norm > THRESHOLD, rank * self._anchor / norm, 1.0)

    def _offer_anchor(self, norm: Tensor) -> None:
        free = (self._anchor == 0) & (norm > THRESHOLD)
        self._anchor = torch.where(free, norm, self._anchor)
