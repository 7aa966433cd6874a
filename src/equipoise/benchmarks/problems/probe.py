"""How much of a class a code tells: a linear probe."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_RIDGE = 1e-3


def probe_accuracy(known: tuple[Tensor, Tensor], asked: tuple[Tensor, Tensor]) -> float:
    """The accuracy of a ridge regression from codes to classes.

    The codes' columns are standardised first, so that a code is not judged by its units; a column
    that hardly changes is left as it is.

    Args:
        known: Codes ``[N, D]`` and classes ``[N]`` that the probe is fitted to.
        asked: Codes ``[M, D]`` and classes ``[M]`` that it is asked about.

    Returns:
        The share that it gets right.

    Example:
        >>> code = torch.eye(4).repeat(5, 1)
        >>> probe_accuracy((code, code.argmax(dim=1)), (code, code.argmax(dim=1)))
        1.0
    """
    codes, classes = known[0].double(), known[1]
    mean, spread = codes.mean(dim=0), codes.std(dim=0).clamp_min(1e-6)
    inputs = (codes - mean) / spread
    targets = F.one_hot(classes).double()
    gram = inputs.mT @ inputs + _RIDGE * len(inputs) * torch.eye(inputs.shape[1]).double()
    weights = torch.linalg.solve(gram, inputs.mT @ (targets - targets.mean(dim=0)))
    scores = (asked[0].double() - mean) / spread @ weights + targets.mean(dim=0)
    return float((scores.argmax(dim=1) == asked[1]).double().mean())
