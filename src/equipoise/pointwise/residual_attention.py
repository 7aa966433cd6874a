"""ResidualAttention: weights that remember where residuals were large (RBA)."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.parts.checks import check_positive, check_within
from equipoise.pointwise.base import Pointwise, Rows


class ResidualAttention(Pointwise):
    r"""Residual-based attention: a decaying sum of how large each point's residual was.

    At each step, before the loss is taken,

    .. math::
        \lambda_i \leftarrow \gamma \lambda_i + \eta \frac{|r_i|}{\max_j |r_j|}, \qquad
        L = \frac{1}{N} \sum_i (\lambda_i r_i)^2,

    from :math:`\lambda = 0`; it stays below :math:`\eta / (1 - \gamma)`. The largest residual is
    that of the points given: of the mini-batch, and of this process.

    Args:
        points: How many points there are. By default the first step tells, and the state is as
            long as what a checkpoint holds; mini-batches with ``index=`` need it.
        decay: The paper's ``gamma``, in [0, 1).
        lr: The paper's ``eta``, positive; 0.01 in the paper, 0.001 in some of its code.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> attention = ResidualAttention(decay=0.5, lr=1.0)
        >>> attention(torch.tensor([2.0, -1.0, 0.0], requires_grad=True)).item()
        1.4166...
        >>> attention.weights
        tensor([1.0000, 0.2500, 0.0000])

    References:
        Anagnostopoulos, Toscano, Stergiopulos, Karniadakis 2024, Residual-based attention and
        connection to information bottleneck theory in PINNs, arXiv 2307.00379; order of update and
        loss as in the authors' PyTorch code.

    Differs from PINA, some versions of which weigh with :math:`\lambda_i r_i^2` and others, as
    here, with :math:`(\lambda_i r_i)^2`; its ``eta`` is 0.001 by default. Residuals that are all
    zero add nothing, where the formula has 0 / 0.
    """

    attention: Tensor

    def __init__(
        self, points: int | None = None, *, decay: float = 0.999, lr: float = 0.01
    ) -> None:
        super().__init__(points)
        check_within(0, 1, closed="low", decay=decay)
        check_positive(lr=lr)
        self.decay = decay
        self.lr = lr
        self._declare("attention", torch.zeros(points or 0))

    def _learned(self, rows: Rows, residuals: Tensor) -> Rows:
        size = residuals.abs()
        largest = size.max().clamp_min(torch.finfo(size.dtype).tiny)
        return {"attention": self.decay * rows["attention"] + self.lr * size / largest}

    def _weights(self, before: Rows, after: Rows) -> Tensor:
        return after["attention"].square()
