"""Relative training rates, as GradNorm and ResNorm compare them."""

from __future__ import annotations

import torch
from torch import Tensor


def training_rates(values: Tensor, initial: Tensor) -> Tensor:
    r"""How far each loss lags behind the others: ``r_i = (L_i / L_i(0)) / mean_j L_j / L_j(0)``.

    Args:
        values: ``[T]`` losses.
        initial: ``[T]`` what they began with.

    Returns:
        ``[T]``, with mean 1. A loss that began at exactly zero has ratio 1; one whose sign has
        changed has ratio 0, as if it had reached zero; all are 1 where every ratio is 0.

    Example:
        >>> training_rates(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0]))
        tensor([0.5000, 1.5000])
    """
    ratios = torch.where(initial != 0, values / initial, 1.0).clamp(min=0)
    mean = ratios.mean()
    return torch.where(mean > 0, ratios / mean, 1.0)
