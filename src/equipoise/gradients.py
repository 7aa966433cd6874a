"""`Gradients`: one gradient per loss, measured once, asked for norms, Gramian, combination.

The wall between what a method wants to know and how it is found out. A method sees `Gradients`;
behind it lie a matrix of rows, or backward passes that are run when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from equipoise.permitting import permitted
from equipoise.watching import like, numel

if TYPE_CHECKING:
    from torch.autograd.graph import GradientEdge

Target: TypeAlias = "Tensor | GradientEdge"
Row: TypeAlias = "list[Tensor]"
Statistic: TypeAlias = Callable[[Row], Tensor]
Pool: TypeAlias = Callable[[Tensor], Tensor]


_BLOCK = 1 << 14  # columns
_CACHED = 1 << 19  # elements of which a few copies fit the cache of a CPU
_LAUNCHED = 1 << 25  # elements for which an accelerator forgets what a launch costs


@dataclass(frozen=True)
class Measuring:
    """How gradients are measured: what to spend, memory or backward passes.

    The rule where nothing is chosen: a method that needs only norms keeps one gradient alive at a
    time (``T`` passes to measure and one to apply); a method that needs more keeps all rows
    (``T`` passes in all, none on top).

    Attributes:
        rows: How many rows may be alive at a time, each of the size of the watched tensors. Fewer
            than ``T`` costs more passes: blocks of ``b = rows - 1`` rows take
            ``T + (T - b) + (T - 2 b) + ...`` passes for the Gramian and one to apply.
        dtype: What rows are kept in; ``None`` is that of the parameters, at least float32.
        chunk: How many losses share one batched (vmap) backward pass.
    """

    rows: int | None = None
    dtype: torch.dtype | None = None
    chunk: int = 1

    def __post_init__(self) -> None:
        """Refuses budgets that cannot be kept."""
        if self.rows is not None and self.rows < 2:
            msg = f"`rows` is {self.rows}; comparing gradients takes at least 2 rows."
            raise ValueError(msg)
        if self.chunk < 1:
            msg = f"`chunk` is {self.chunk}; it must be at least 1."
            raise ValueError(msg)

    def passes(self, losses: int, *, norms_only: bool) -> int:
        """The price: backward passes of one measured step, the one that applies included."""
        if norms_only:
            return losses + 1
        if self.rows is None or self.rows >= losses:
            return losses
        return sum(range(losses, 0, -(self.rows - 1))) + 1


class Gradients:
    """One gradient per loss with respect to the same tensors: the ``T x P`` Jacobian.

    Args:
        matrix: ``[T, P]``, a gradient a row.
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

    def __init__(
        self, matrix: Tensor, sizes: Sequence[int] | None = None, *, pool: Pool | None = None
    ) -> None:
        if matrix.ndim != 2:
            msg = f"`matrix` has a gradient a row, shape [T, P]; got {tuple(matrix.shape)}."
            raise ValueError(msg)
        sizes = [matrix.shape[1]] if sizes is None else list(sizes)
        if sum(sizes) != matrix.shape[1]:
            msg = f"`sizes` add up to {sum(sizes)}, but `matrix` has {matrix.shape[1]} columns."
            raise ValueError(msg)
        self._rows = matrix.detach()
        self._sizes = sizes
        self._pool = pool
        self._gram: Tensor | None = None
        self._norms: Tensor | None = None

    def __len__(self) -> int:
        """How many losses, ``T``."""
        return self._rows.shape[0]

    @property
    def width(self) -> int:
        """How many columns this process has, ``P`` unless it has only a part of them."""
        return sum(self._sizes)

    @property
    def like(self) -> Tensor:
        """Some tensor of the gradients' dtype and device."""
        return self._rows

    def matrix(self) -> Tensor:
        """The ``[T, P]`` Jacobian.

        Raises:
            TypeError: If this process has only a part of its columns.
        """
        self._refuse_parts()
        return self.columns()

    def columns(self) -> Tensor:
        """The columns of the Jacobian that this process has; for methods that work entry by entry.

        Returns:
            ``[T, P]``; narrower only where a representation or sharded parameters are watched in
            data-parallel training.
        """
        return self._rows

    def gram(self) -> Tensor:
        """The ``[T, T]`` Gramian of inner products."""
        if self._gram is None:
            self._gram = self._whole(gramian(self.columns()))
        return self._gram

    def norms(self) -> Tensor:
        """The ``[T]`` L2 norms."""
        if self._norms is None:
            if self._gram is not None:
                self._norms = self._gram.diagonal().sqrt()
            else:
                self._norms = self._measure_norms()
        return self._norms

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
        return [Gradients(part) for part in self.matrix().split(self._sizes, dim=1)]

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
        return torch.stack([statistic(list(row.split(self._sizes))) for row in self.matrix()])

    def measured(self) -> tuple[Tensor | None, Tensor | None]:
        """Norms and cosines where they are known already; costs no pass."""
        known = self._gram is not None
        norms = self.norms() if known else self._norms
        return norms, self.cosines() if known else None

    def finite(self) -> Tensor | None:
        """Whether what is known already is finite, a boolean scalar; ``None`` if nothing is."""
        known = self._norms if self._gram is None else self._gram
        return None if known is None else known.isfinite().all()

    def scaled(self, factors: Tensor) -> Gradients:
        """The gradients of ``factors[t] * L_t``.

        Args:
            factors: ``[T]``.
        """
        return _Scaled(self, factors)

    def _measure_norms(self) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(_at_least_float32(self.columns()), dim=1)
        return norms if self._pool is None else self._whole(norms.square()).sqrt()

    def _whole(self, products: Tensor) -> Tensor:
        """Inner products of whole gradients, from those of the parts that this process has."""
        return products if self._pool is None else self._pool(products)

    def _refuse_parts(self) -> None:
        if self._pool is not None:
            msg = (
                "Each process holds a part of every gradient here (that of its own samples, or its "
                "shards), from which only inner products can be pooled; this method needs whole "
                "gradients. Watch parameters that are not sharded, or take a method that looks at "
                "norms or the Gramian alone, such as GradNorm or UPGrad."
            )
            raise TypeError(msg)


class _Scaled(Gradients):
    """Gradients of scaled losses, on top of what was measured."""

    def __init__(self, inner: Gradients, factors: Tensor) -> None:
        self._inner = inner
        self._factors = factors
        self._sizes = inner._sizes
        self._pool = inner._pool
        self._gram = None
        self._norms = None

    def __len__(self) -> int:
        return len(self._inner)

    @property
    def like(self) -> Tensor:
        return self._inner.like

    def columns(self) -> Tensor:
        columns = self._inner.columns()
        return columns * self._factors.to(columns.dtype)[:, None]

    def tensors(self) -> list[Gradients]:
        return [part.scaled(self._factors) for part in self._inner.tensors()]

    def _blocks(self, *beside: Tensor) -> Iterator[tuple[Tensor, ...]]:
        for rows, *others in self._inner._blocks(*beside):
            yield rows * self._factors.to(rows.dtype)[:, None], *others

    def gram(self) -> Tensor:
        if self._gram is None:
            gram = self._inner.gram()
            factors = self._factors.to(gram.dtype)
            self._gram = gram * factors[:, None] * factors
        return self._gram

    def combine(self, weights: Tensor) -> Tensor:
        return self._inner.combine(weights * self._factors)

    def per_loss(self, statistic: Statistic) -> Tensor:
        factors = iter(self._factors)

        def scaled(row: Row) -> Tensor:
            factor = next(factors)
            return statistic([part * factor.to(part.dtype) for part in row])

        return self._inner.per_loss(scaled)

    def _measure_norms(self) -> Tensor:
        norms = self._inner.norms()
        return norms * self._factors.abs().to(norms.dtype)


@dataclass
class Passes:
    """The backward passes of one step: the gradient of loss ``i``, computed when asked for.

    Attributes:
        losses: The live scalars; ``None`` for one that only other processes have.
        targets: What the gradients are taken with respect to: tensors or edges of the graph.
        own: For each loss, leaves whose gradient the same pass keeps in `own_gradients`.
        seed: What the losses' gradient starts from, a scalar tensor: a loss scale, or one.
        retain_graph: Whether the graph outlives the last pass.
        average: Averages gradients over the processes of a data-parallel run, in place.
        pool: Where each process finds only a part of every gradient: see `Gradients`.
        own_gradients: What the passes found of each loss's own leaves.
        reached: Whether some loss reached some target.
    """

    losses: Sequence[Tensor | None]
    targets: Sequence[Target]
    own: Sequence[Sequence[Tensor]] = ()
    seed: Tensor | None = None
    retain_graph: bool = True
    average: Callable[[Sequence[Tensor]], None] | None = None
    pool: Pool | None = None
    own_gradients: list[Sequence[Tensor | None]] = field(default_factory=list)
    reached: bool = False

    def __post_init__(self) -> None:
        """Nothing is known of the own parameters before their pass."""
        self.own_gradients = [()] * len(self.losses)

    @permitted()
    def row(self, i: int, *, last: bool = False) -> list[Tensor | None]:
        """The gradient of loss ``i``: one tensor a target, ``None`` where it does not reach."""
        loss = self.losses[i]
        own = self.own[i] if self.own else ()
        if loss is None:
            self.own_gradients[i] = [None] * len(own)
            return [None] * len(self.targets)
        seed = None if self.seed is None else [self.seed.to(loss.dtype)]
        found = torch.autograd.grad(
            [loss],
            [*self.targets, *own],  # type: ignore[arg-type]  # torch takes edges and tensors mixed
            grad_outputs=seed,
            retain_graph=self.retain_graph or not last,
            allow_unused=True,
        )
        self.own_gradients[i] = found[len(self.targets) :]
        return self._watched(found)

    @permitted()
    def rows(self, start: int, stop: int, *, last: bool = False) -> list[list[Tensor | None]]:
        """The gradients of losses ``start`` to ``stop`` from one batched pass."""
        losses = [loss for loss in self.losses[start:stop] if loss is not None]
        if len(losses) < stop - start:
            return [self.row(i, last=last and i == stop - 1) for i in range(start, stop)]
        ones = torch.eye(len(losses), dtype=losses[0].dtype, device=losses[0].device)
        if self.seed is not None:
            ones = ones * self.seed
        own = [leaf for leaves in self.own[start:stop] for leaf in leaves]
        found = torch.autograd.grad(
            losses,
            [*self.targets, *own],  # type: ignore[arg-type]  # torch takes edges and tensors mixed
            grad_outputs=[one.to(loss.dtype) for one, loss in zip(ones, losses, strict=True)],
            retain_graph=self.retain_graph or not last,
            allow_unused=True,
            is_grads_batched=True,
        )
        leftover = iter(found[len(self.targets) :])
        for i, leaves in enumerate(self.own[start:stop]):
            batched = [next(leftover) for _ in leaves]
            self.own_gradients[start + i] = [g if g is None else g[i] for g in batched]
        targets = self._watched(found)
        return [[g if g is None else g[i] for g in targets] for i in range(len(losses))]

    @property
    def sizes(self) -> list[int]:
        """The number of elements that a row has of each target."""
        return [numel(target) for target in self.targets]

    def shaped(self, target: Target, flat: Tensor) -> Tensor:
        """A flat gradient, of as many elements as a row has, in the form of its target."""
        return like(target, flat)

    def holder(self, leaf: Tensor) -> Tensor:
        """The tensor in whose ``.grad`` the gradient of a leaf belongs."""
        return leaf

    @property
    def like(self) -> Tensor:
        """Some loss, whose dtype and device count."""
        return next(loss for loss in self.losses if loss is not None)

    @property
    def last(self) -> int:
        """The position of the last loss that this process has: its pass may free the graph."""
        return max(i for i, loss in enumerate(self.losses) if loss is not None)

    def average_own(self) -> None:
        """Averages what was found of the losses' own leaves over the processes."""
        if self.average is None or not self.own:
            return
        filled = [
            [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(own, found, strict=True)]
            for own, found in zip(self.own, self.own_gradients, strict=True)
        ]
        self.average([gradient for part in filled for gradient in part])
        self.own_gradients = list(filled)

    def _watched(self, found: Sequence[Tensor | None]) -> list[Tensor | None]:
        watched = list(found[: len(self.targets)])
        self.reached = self.reached or any(gradient is not None for gradient in watched)
        return watched


def stack_rows(passes: Passes, out: Tensor, sizes: Sequence[int], chunk: int = 1) -> Tensor:
    """Runs the passes and lays their gradients into the rows of ``out``.

    Args:
        passes: The passes to run, ``T`` of them.
        out: ``[T, P]``, overwritten.
        sizes: The number of elements of each target.
        chunk: How many losses share one batched pass.

    Returns:
        ``out``.
    """
    count = len(passes.losses)
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        last = start <= passes.last < stop
        if chunk == 1:
            found = [passes.row(start, last=last)]
        else:
            found = passes.rows(start, stop, last=last)
        for row, gradients in zip(out[start:stop], found, strict=True):
            _lay(row, gradients, sizes)
            if passes.average is not None:
                passes.average([row])
        del found, gradients  # else they live on beside those of the next pass
    return out


def _lay(row: Tensor, gradients: Sequence[Tensor | None], sizes: Sequence[int]) -> None:
    places: list[Tensor] = []
    found: list[Tensor] = []
    for place, gradient in zip(row.split(list(sizes)), gradients, strict=True):
        if gradient is None:
            place.zero_()
        else:
            places.append(place.view(gradient.shape))
            found.append(gradient)
    if found:
        torch._foreach_copy_(places, found)


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
        self._pool = pool
        self._gram = None
        self._norms = None

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

    def gram(self) -> Tensor:
        """The Gramian from blocks of rows, as many alive as the budget allows."""
        if self._gram is None:
            self._gram = self._blocked_gram(max((self._budget or len(self)) - 1, 1))
        return self._gram

    def per_loss(self, statistic: Statistic) -> Tensor:
        """A statistic of each gradient; ``T`` passes, one gradient alive at a time."""
        self._refuse_parts()
        return torch.stack([statistic(self._flat_row(i)) for i in range(len(self))])

    def _measure_norms(self) -> Tensor:
        norms = torch.stack([l2_norm(self._flat_row(i)) for i in range(len(self))])
        return norms if self._pool is None else self._whole(norms.square()).sqrt()

    def _flat_row(self, i: int) -> Row:
        found = self._passes.row(i)
        like = self._passes.like
        row = [
            like.new_zeros(size) if gradient is None else gradient.reshape(-1)
            for gradient, size in zip(found, self._sizes, strict=True)
        ]
        if self._passes.average is not None:
            self._passes.average(row)
        return row

    def _blocked_gram(self, block: int) -> Tensor:
        count = len(self)
        gram = _at_least_float32(self._passes.like.new_zeros(count, count))
        for start in range(0, count, block):
            kept: list[Row] = []
            for j in range(start, count):
                row = self._flat_row(j)
                if j < start + block:
                    kept.append(row)
                for i, other in enumerate(kept, start):
                    gram[i, j] = gram[j, i] = _inner(other, row)
        return self._whole(gram)


def l2_norm(row: Row) -> Tensor:
    """The L2 norm of a gradient given tensor by tensor."""
    norms = _at_least_float32(torch.stack(torch._foreach_norm(row)))
    return norms.square().sum().sqrt()


def _inner(left: Row, right: Row) -> Tensor:
    products = [torch.dot(a, b) for a, b in zip(left, right, strict=True)]
    return torch.stack(products).sum()


def column_blocks(*wide: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cuts tensors of equally many columns, their last axis, into blocks that fit a cache.

    Args:
        wide: The tensors; the first tells how many elements a column has.

    Returns:
        Views of the same columns of each tensor, block after block.
    """
    rows = wide[0].shape[:-1].numel()
    room = _CACHED if wide[0].device.type == "cpu" else _LAUNCHED
    columns = max(room // max(rows, 1), 1)
    return zip(*(tensor.split(columns, dim=-1) for tensor in wide), strict=True)


def gramian(matrix: Tensor) -> Tensor:
    """``J J^T`` of a wide matrix, at least float32.

    On a CPU the columns are taken in blocks that fit its cache: twice as fast as one product of a
    few long rows, and less rounding.
    """
    if matrix.device.type != "cpu" or matrix.shape[1] <= _BLOCK:
        return _at_least_float32(matrix @ matrix.T)
    gram = _at_least_float32(matrix.new_zeros(len(matrix), len(matrix)))
    for block in matrix.split(_BLOCK, dim=1):
        block = block.to(gram.dtype)  # noqa: PLW2901
        gram.addmm_(block, block.T)
    return gram


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
