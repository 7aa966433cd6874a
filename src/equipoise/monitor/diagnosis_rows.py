"""What a diagnosis keeps of each batch's gradients: sums, and a sketch of each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.gradients.linalg import column_blocks

WIDTH = 4096  # numbers that a sketch has; inner products are then off by about 1 / sqrt(WIDTH)
_SEED = 2026


class Layout:
    """Gives each watched tensor its columns for good, so that batches can be added up.

    A batch without a loss may share less than others do: tensors that it does not reach have zero
    gradients there, and those that it alone reaches get columns behind all others.
    """

    def __init__(self) -> None:
        self.places: dict[Tensor, tuple[int, int]] = {}
        self.width = 0

    def __deepcopy__(self, memo: dict[int, object]) -> Layout:
        """A copy watches the same tensors, not copies of them."""
        copied = Layout()
        copied.places, copied.width = dict(self.places), self.width
        return copied

    def place(self, targets: Sequence[Tensor], sizes: Sequence[int], rows: Tensor) -> Tensor:
        """The rows with every tensor's gradient in its own columns.

        Args:
            targets: The tensors whose gradients the rows hold, in order.
            sizes: How many columns each has.
            rows: ``[k, sum(sizes)]``.

        Returns:
            ``[k, width]``; the rows themselves where nothing has to move.
        """
        for target, size in zip(targets, sizes, strict=True):
            if target not in self.places:
                self.places[target] = self.width, size
                self.width += size
        # Autocast's cache of cast weights, for one, changes the order in which a walk meets them.
        in_order = all(a is b for a, b in zip(targets, self.places, strict=False))
        if in_order and rows.shape[1] == self.width:
            return rows
        placed = rows.new_zeros(len(rows), self.width)
        for target, part in zip(targets, rows.split(list(sizes), dim=1), strict=True):
            start, size = self.places[target]
            placed[:, start : start + size] = part
        return placed


class Sketch:
    """Shrinks gradients to a few thousand numbers that keep their inner products.

    A count sketch (Charikar, Chen & Farach-Colton 2002): the columns are cut into pieces of `WIDTH`
    numbers, each piece is given random signs and turned by a random angle, and the pieces are added
    up. Inner products stay the same on average, and are off by about 1.6 % of the product of the
    norms; those of gradients that have no more than `WIDTH` numbers stay exact. All is drawn from a
    generator of its own, the same for every batch and process.
    """

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(_SEED)
        self._signs = self._random_signs(WIDTH)
        self._turns: list[tuple[float, int]] = []

    def __call__(self, rows: Tensor) -> Tensor:
        """Sketches rows.

        Args:
            rows: ``[k, P]``.

        Returns:
            ``[k, min(P, WIDTH)]``, of the same dtype.
        """
        out = rows.new_zeros(len(rows), WIDTH)  # gradients that are shorter lie in it as they are
        signs = self._signs.to(rows)
        for number, piece in enumerate(rows.split(WIDTH, dim=1)):
            sign, turn = self._turn(number)
            signed = piece * (signs[: piece.shape[1]] * sign)
            # A piece that is turned wraps around: its end comes to lie at the beginning.
            head = min(piece.shape[1], WIDTH - turn)
            out[:, turn : turn + head] += signed[:, :head]
            out[:, : piece.shape[1] - head] += signed[:, head:]
        return out[:, : rows.shape[1]]

    def _turn(self, number: int) -> tuple[float, int]:
        # One sign per piece alone would let pieces with one pattern add up: hence the turns.
        while number >= len(self._turns):
            sign = float(self._random_signs(1))
            turn = int(torch.randint(WIDTH, (1,), generator=self._generator))
            self._turns.append((sign, turn) if self._turns else (1.0, 0))
        return self._turns[number]

    def _random_signs(self, count: int) -> Tensor:
        return torch.randint(2, (count,), generator=self._generator).mul(2).sub(1)


class Sums:
    """The sum of each loss's gradients over the batches, and the squares that Adam would keep."""

    def __init__(self, losses: int) -> None:
        self.counts = [0] * losses
        self.steps = 0
        self.gradients: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, present: Sequence[int], rows: Tensor) -> None:
        """Adds a batch.

        Args:
            present: The losses that the rows belong to.
            rows: ``[len(present), width]``, finite; wider than before where something is new.
        """
        if self.gradients is None or self.gradients.shape[1] < rows.shape[1]:
            self._widen(rows)
        assert self.gradients is not None  # noqa: S101  # `_widen` has just made it
        assert self.squares is not None  # noqa: S101
        for loss, row in zip(present, rows, strict=True):
            self.counts[loss] += 1
            self.gradients[loss] += row
        self.steps += 1
        self.squares += rows.sum(dim=0).square()

    def _widen(self, rows: Tensor) -> None:
        gradients, squares = self.gradients, self.squares
        self.gradients = rows.new_zeros(len(self.counts), rows.shape[1])
        self.squares = rows.new_zeros(rows.shape[1])
        if gradients is not None and squares is not None:
            self.gradients[:, : gradients.shape[1]] = gradients
            self.squares[: squares.shape[0]] = squares

    def adam_norms(self) -> list[float]:
        r"""The length that each loss has in Adam's update of the plain sum.

        With :math:`m_i` the mean gradient of loss ``i`` and :math:`v` the mean square of the summed
        gradient, Adam (Kingma & Ba 2015) moves by :math:`\sum_i m_i / \sqrt v`, once its averages
        have settled. Where :math:`v` is zero nothing moves.

        Returns:
            ``T`` norms of :math:`m_i / \sqrt v`, zero for losses that were never there.
        """
        if self.gradients is None or self.squares is None:
            return [0.0] * len(self.counts)
        totals = torch.zeros(len(self.counts), dtype=torch.float64, device=self.gradients.device)
        for rows, squares in column_blocks(self.gradients, self.squares):
            deviations = squares.double().div(self.steps).sqrt()
            moves = torch.where(deviations > 0, rows.double() / deviations, 0.0)
            totals += moves.square().sum(dim=1)
        norms = totals.sqrt().tolist()
        return [norm / max(n, 1) for norm, n in zip(norms, self.counts, strict=True)]


def gram_of(rows: Tensor) -> Tensor:
    """The ``[k, k]`` Gramian in double precision: squares of small gradients underflow in single.

    Args:
        rows: ``[k, P]``.
    """
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for (block,) in column_blocks(rows):
        wide = block.double()
        gram += wide @ wide.T
    return gram


def meeting(rows: Tensor) -> Tensor:
    """Which gradients meet in some coordinate, ``[k, k]``: the others have nothing to do with each.

    Args:
        rows: ``[k, P]``.
    """
    met = torch.zeros(len(rows), len(rows), dtype=torch.bool, device=rows.device)
    for (block,) in column_blocks(rows):
        there = (block != 0).to(rows.dtype)
        met |= there @ there.T > 0
    return met


def cosines_of(gram: Tensor) -> Tensor:
    """The cosines in a Gramian; not a number where a gradient is zero."""
    norms = gram.diagonal().sqrt()
    cosines = gram / norms[:, None] / norms
    return torch.where(cosines.isfinite(), cosines.clamp(-1, 1), math.nan)
