"""Weights inverse to sizes, as PINN codes equalise gradient norms and kernels."""

from __future__ import annotations

import torch
from torch import Tensor


def inverse_weights(sizes: Tensor, eps: float) -> Tensor:
    r"""Weights that bring sizes to their mean: ``w_i = m / (s_i + eps m)``, ``m = mean_j s_j``.

    Args:
        sizes: ``[T]``, none negative.
        eps: Bounds the weights: a size of zero gets ``1 / eps``.

    Returns:
        ``[T]``; ones where all sizes are zero.

    Example:
        >>> inverse_weights(torch.tensor([1.0, 3.0]), eps=0.0)
        tensor([2.0000, 0.6667])
    """
    mean = sizes.mean()
    return torch.where(mean > 0, mean / (sizes + eps * mean), 1.0)
