"""`Gradients`: one gradient per loss, measured once, asked for norms, Gramian, combination.

The wall between what a method wants to know and how it is found out. A method sees `Gradients`;
behind it lie a matrix of rows, or backward passes that are run when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from equipoise.finite import all_finite
from equipoise.gradients.linalg import column_blocks, gramian, row_norms

Row: TypeAlias = "list[Tensor]"
Statistic: TypeAlias = Callable[[Row], Tensor]
Pool: TypeAlias = Callable[[Tensor], Tensor]


class Gradients:
    """One gradient per loss with respect to the same tensors: the ``T x P`` Jacobian.

    Abstract: ``Gradients(matrix)`` makes `MatrixGradients`; others measure when they are asked, or
    know less than everything. A kind of it supplies `__len__`, `sizes`, `like`, `columns` and,
    where there is a cheaper way, `_measure_norms` or `_measure_gram`.

    Args:
        matrix: ``[T, P]``, one gradient per row.
        sizes: How many of the ``P`` columns belong to each tensor, in order; default one tensor.
        pool: Where each process holds some of the columns: makes their inner products those of the
            whole gradients.

    Raises:
        ValueError: If ``matrix`` is not two-dimensional or ``sizes`` do not add up to ``P``.

    Example:
        >>> gradients = Gradients(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        >>> gradients.norms()
        tensor([5., 2.])
        >>> gradients.combine(torch.tensor([1.0, 0.5]))
        tensor([3., 5.])
    """

    pool: Pool | None = None
    """Makes inner products of the columns that this process has those of whole gradients."""

    apart: tuple[int, ...] = ()
    """Losses that reach none of these tensors: their rows are zero, and no method sees them."""

    if TYPE_CHECKING:

        def __new__(  # noqa: PYI034  # another kind than itself
            cls, matrix: Tensor, sizes: Sequence[int] | None = None, *, pool: Pool | None = None
        ) -> Gradients:
            """See the class."""
    else:

        def __new__(cls, *_: Any, **__: Any) -> Gradients:  # noqa: ANN401, D102, PYI034
            return super().__new__(MatrixGradients if cls is Gradients else cls)

    def __len__(self) -> int:
        """How many losses, ``T``."""
        raise NotImplementedError

    @property
    def sizes(self) -> list[int]:
        """How many columns belong to each tensor."""
        raise NotImplementedError

    @property
    def like(self) -> Tensor:
        """Some tensor of the gradients' dtype and device."""
        raise NotImplementedError

    def columns(self) -> Tensor:
        """The columns of the Jacobian that this process has; for methods that work entry by entry.

        Returns:
            ``[T, P]``; narrower only where a representation or sharded parameters are watched in
            data-parallel training.
        """
        raise NotImplementedError

    @property
    def width(self) -> int:
        """How many columns this process has, ``P`` unless it has only a part of them."""
        return sum(self.sizes)

    def matrix(self) -> Tensor:
        """The ``[T, P]`` Jacobian.

        Raises:
            TypeError: If this process has only a part of its columns.
        """
        self._refuse_parts()
        return self.columns()

    def gram(self) -> Tensor:
        """The ``[T, T]`` Gramian of inner products."""
        return self._gram

    def norms(self) -> Tensor:
        """The ``[T]`` L2 norms."""
        return self._norms

    @cached_property
    def _gram(self) -> Tensor:
        return self._measure_gram()

    @cached_property
    def _norms(self) -> Tensor:
        if "_gram" in self.__dict__:
            return self._gram.diagonal().clamp(min=0).sqrt()
        return self._measure_norms()

    def _measure_gram(self) -> Tensor:
        return self._whole(gramian(self.columns()))

    def _measure_norms(self) -> Tensor:
        norms = row_norms(self.columns())
        return norms if self.pool is None else self._whole(norms.square()).sqrt()

    def cosines(self) -> Tensor:
        """The ``[T, T]`` cosines; zero where a gradient is zero."""
        norms = self.gram().diagonal().sqrt()
        inverse = torch.where(norms > 0, 1 / norms, norms)
        return self.gram() * inverse[:, None] * inverse

    def combine(self, weights: Tensor) -> Tensor:
        """The ``[P]`` combined gradient ``sum_t w_t g_t``."""
        columns = self.columns()
        return weights.to(columns.dtype) @ columns

    def tensors(self) -> list[Gradients]:
        """The gradients with respect to each tensor, ``T x P_k``."""
        return [Gradients(part) for part in self.matrix().split(self.sizes, dim=1)]

    def of_tensors(self, start: int, stop: int) -> Gradients:
        """The gradients with respect to some of the tensors.

        Args:
            start: The first of them, by position in `sizes`.
            stop: The one behind the last.
        """
        first, last = sum(self.sizes[:start]), sum(self.sizes[:stop])
        columns = self.columns()[:, first:last]
        return MatrixGradients(columns, self.sizes[start:stop], pool=self.pool)

    def entrywise(self, formula: Callable[..., Tensor], *beside: Tensor) -> Tensor:
        """A formula by which each column becomes one number, whatever the others hold.

        It is applied to block after block of columns, so that what it computes on the way is small.

        Args:
            formula: Takes ``[T, b]`` columns, then the same columns of each tensor ``beside``;
                returns ``[b]``.
            beside: Tensors of ``P`` columns, their last axis.

        Returns:
            ``[P]``, of the gradients' dtype.

        Example:
            >>> gradients = Gradients(torch.tensor([[3.0, 4.0], [0.0, 5.0]]))
            >>> gradients.entrywise(lambda rows, limit: rows.amax(dim=0) - limit, torch.ones(2))
            tensor([2., 4.])
        """
        combined = self.like.new_empty(self.width)
        for rows, place, *others in self._blocks(combined, *beside):
            place.copy_(formula(rows, *others))
        return combined

    def blocks(self, *beside: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Goes through the columns block by block, small enough for a cache.

        Args:
            beside: Tensors of ``P`` columns, their last axis: state as wide as a gradient.

        Returns:
            For each block ``[T, b]`` columns, not to be changed, then views of the same columns of
            each tensor ``beside``, which may be.

        Raises:
            TypeError: If this process has only a part of the columns.
        """
        self._refuse_parts()
        return self._blocks(*beside)

    def _blocks(self, *beside: Tensor) -> Iterator[tuple[Tensor, ...]]:
        return column_blocks(self.columns(), *beside)

    def per_loss(self, statistic: Statistic) -> Tensor:
        """A statistic of each gradient.

        Args:
            statistic: Takes a row as a list of one flat gradient a tensor, returns a tensor.

        Returns:
            ``[T, ...]``: the statistics, stacked.
        """
        return torch.stack([statistic(list(row.split(self.sizes))) for row in self.matrix()])

    def known(self) -> tuple[Tensor | None, Tensor | None]:
        """Norms and cosines where they are known already; costs no pass."""
        if "_gram" in self.__dict__:
            return self.norms(), self.cosines()
        return self.__dict__.get("_norms"), None

    def finite(self) -> bool | Tensor:
        """Whether what is known already is finite; a boolean scalar on an accelerator."""
        known: Tensor | None = self.__dict__.get("_gram", self.__dict__.get("_norms"))
        return True if known is None else all_finite(known)

    def scaled(self, factors: Tensor) -> Gradients:
        """The gradients of ``factors[t] * L_t``.

        Args:
            factors: ``[T]``.
        """
        return ScaledGradients(self, factors)

    def among(self, places: Sequence[int]) -> Gradients:
        """The gradients of some of the losses.

        Args:
            places: Which, ascending.
        """
        return SomeGradients(self, places)

    def _whole(self, products: Tensor) -> Tensor:
        """Inner products of whole gradients, from those of the parts that this process has."""
        return products if self.pool is None else self.pool(products)

    def _refuse_parts(self) -> None:
        if self.pool is not None:
            msg = (
                "Each process holds a part of every gradient here (that of its own samples, or its "
                "shards), from which only inner products can be pooled; this method needs whole "
                "gradients. Watch parameters that are not sharded, or take a method that looks at "
                "norms or the Gramian alone, such as GradNorm or UPGrad."
            )
            raise TypeError(msg)


class MatrixGradients(Gradients):
    """Gradients that lie in one matrix: see `Gradients` for its arguments and errors."""

    def __init__(
        self, matrix: Tensor, sizes: Sequence[int] | None = None, *, pool: Pool | None = None
    ) -> None:
        if matrix.ndim != 2:
            msg = f"`matrix` has one gradient per row, shape [T, P]; got {tuple(matrix.shape)}."
            raise ValueError(msg)
        sizes = [matrix.shape[1]] if sizes is None else list(sizes)
        if sum(sizes) != matrix.shape[1]:
            msg = f"`sizes` add up to {sum(sizes)}, but `matrix` has {matrix.shape[1]} columns."
            raise ValueError(msg)
        self._rows = matrix.detach()
        self._sizes = sizes
        self.pool = pool

    def __len__(self) -> int:
        return self._rows.shape[0]

    @property
    def sizes(self) -> list[int]:
        """How many columns belong to each tensor."""
        return self._sizes

    @property
    def like(self) -> Tensor:
        """The rows."""
        return self._rows

    def columns(self) -> Tensor:
        """The rows."""
        return self._rows


class ScaledGradients(Gradients):
    """The gradients of scaled losses, on top of what was measured.

    Args:
        inner: The gradients of the losses.
        factors: ``[T]``, what each loss is multiplied with.
    """

    def __init__(self, inner: Gradients, factors: Tensor) -> None:
        self._inner = inner
        self._factors = factors
        self.pool = inner.pool

    def __len__(self) -> int:
        return len(self._inner)

    @property
    def sizes(self) -> list[int]:
        """Those of the gradients that are scaled."""
        return self._inner.sizes

    @property
    def like(self) -> Tensor:
        """That of the gradients that are scaled."""
        return self._inner.like

    def columns(self) -> Tensor:
        """The columns, scaled; a copy."""
        columns = self._inner.columns()
        return columns * self._factors.to(columns.dtype)[:, None]

    def tensors(self) -> list[Gradients]:
        """The gradients with respect to each tensor, scaled."""
        return [part.scaled(self._factors) for part in self._inner.tensors()]

    def of_tensors(self, start: int, stop: int) -> Gradients:
        """The gradients with respect to some of the tensors, scaled."""
        return self._inner.of_tensors(start, stop).scaled(self._factors)

    def _blocks(self, *beside: Tensor) -> Iterator[tuple[Tensor, ...]]:
        for rows, *others in self._inner._blocks(*beside):
            yield rows * self._factors.to(rows.dtype)[:, None], *others

    def combine(self, weights: Tensor) -> Tensor:
        """Combined without a copy of the columns."""
        return self._inner.combine(weights * self._factors)

    def per_loss(self, statistic: Statistic) -> Tensor:
        """A statistic of each scaled gradient."""
        factors = iter(self._factors)

        def scaled(row: Row) -> Tensor:
            factor = next(factors)
            return statistic([part * factor.to(part.dtype) for part in row])

        return self._inner.per_loss(scaled)

    def _measure_gram(self) -> Tensor:
        gram = self._inner.gram()
        factors = self._factors.to(gram.dtype)
        return gram * factors[:, None] * factors

    def _measure_norms(self) -> Tensor:
        norms = self._inner.norms()
        return norms * self._factors.abs().to(norms.dtype)


class SomeGradients(Gradients):
    """The gradients of some of the losses, on top of what was measured of all.

    Args:
        inner: The gradients of all.
        places: Which of them.
    """

    def __init__(self, inner: Gradients, places: Sequence[int]) -> None:
        self._inner = inner
        self._places = list(places)
        self.pool = inner.pool

    def __len__(self) -> int:
        return len(self._places)

    @property
    def sizes(self) -> list[int]:
        """Those of the gradients of all."""
        return self._inner.sizes

    @property
    def like(self) -> Tensor:
        """That of the gradients of all."""
        return self._inner.like

    def columns(self) -> Tensor:
        """Their columns; a copy."""
        return self._inner.columns()[self._places]

    def tensors(self) -> list[Gradients]:
        """Their gradients with respect to each tensor."""
        return [part.among(self._places) for part in self._inner.tensors()]

    def of_tensors(self, start: int, stop: int) -> Gradients:
        """Their gradients with respect to some of the tensors."""
        return self._inner.of_tensors(start, stop).among(self._places)

    def _blocks(self, *beside: Tensor) -> Iterator[tuple[Tensor, ...]]:
        for rows, *others in self._inner._blocks(*beside):
            yield rows[self._places], *others

    def combine(self, weights: Tensor) -> Tensor:
        """Combined without a copy of the columns."""
        everywhere = weights.new_zeros(len(self._inner))
        everywhere[self._places] = weights
        return self._inner.combine(everywhere)

    def per_loss(self, statistic: Statistic) -> Tensor:
        """A statistic of each of their gradients; of the others none is taken."""
        places = iter(range(len(self._inner)))
        found: list[Tensor] = []

        def chosen(row: Row) -> Tensor:
            if next(places) in self._places:
                found.append(statistic(row))
            return self.like.new_zeros(())

        self._inner.per_loss(chosen)
        return torch.stack(found)

    def _measure_gram(self) -> Tensor:
        return self._inner.gram()[self._places][:, self._places]

    def _measure_norms(self) -> Tensor:
        return self._inner.norms()[self._places]
