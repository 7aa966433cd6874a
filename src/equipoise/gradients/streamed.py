"""`StreamedGradients`: gradients of which one is alive at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.autograd.targets import flat
from equipoise.gradients.factored import affine_norms
from equipoise.gradients.gradients import Gradients, Pool, Row, Statistic
from equipoise.gradients.linalg import at_least_float32, inner, l2_norm
from equipoise.gradients.passes import Passes, stack_rows


class StreamedGradients(Gradients):
    """Gradients of which one is alive at a time: each statistic asked for costs ``T`` passes."""

    def __init__(
        self,
        passes: Passes,
        sizes: Sequence[int],
        rows: int | None = None,
        *,
        pool: Pool | None = None,
    ) -> None:
        self._passes = passes
        self._sizes = list(sizes)
        self._budget = rows
        self.pool = pool

    def __len__(self) -> int:
        return len(self._passes.losses)

    @property
    def like(self) -> Tensor:
        """Some tensor of the dtype that rows are kept in."""
        loss = self._passes.like
        dtype = torch.float64 if loss.dtype == torch.float64 else torch.float32
        return torch.empty(0, dtype=dtype, device=loss.device)

    def columns(self) -> Tensor:
        """The columns of the Jacobian that this process has, materialised for the caller."""
        out = self.like.new_empty(len(self), self.width)
        return stack_rows(self._passes, out, self._sizes)

    @property
    def sizes(self) -> list[int]:
        """How many columns belong to each tensor."""
        return self._sizes

    def _measure_gram(self) -> Tensor:
        """From blocks of rows, as many alive as the budget allows."""
        return self._blocked_gram(max((self._budget or len(self)) - 1, 1))

    def per_loss(self, statistic: Statistic) -> Tensor:
        """A statistic of each gradient; ``T`` passes, one gradient alive at a time."""
        self._refuse_parts()
        return torch.stack([statistic(self._flat_row(i)) for i in range(len(self))])

    def _measure_norms(self) -> Tensor:
        if (norms := affine_norms(self._passes)) is not None:
            return norms
        norms = torch.stack([l2_norm(self._flat_row(i)) for i in range(len(self))])
        return norms if self.pool is None else self._whole(norms.square()).sqrt()

    def _flat_row(self, i: int) -> Row:
        found = self._passes.row(i)
        like = self._passes.like
        row = [
            like.new_zeros(size) if gradient is None else flat(gradient)
            for gradient, size in zip(found, self._sizes, strict=True)
        ]
        if self._passes.average is not None:
            self._passes.average(row)
        return row

    def _blocked_gram(self, block: int) -> Tensor:
        count = len(self)
        gram = at_least_float32(self._passes.like.new_zeros(count, count))
        for start in range(0, count, block):
            kept: list[Row] = []
            for j in range(start, count):
                row = self._flat_row(j)
                if j < start + block:
                    kept.append(row)
                for i, other in enumerate(kept, start):
                    gram[i, j] = gram[j, i] = _inner(other, row)
        return self._whole(gram)


def _inner(left: Row, right: Row) -> Tensor:
    products = [inner(a, b) for a, b in zip(left, right, strict=True)]
    return torch.stack(products).sum()
