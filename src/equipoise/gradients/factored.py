"""Gradients whose parts at affine layers are never formed: see `affine` for the formula."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from equipoise.autograd.targets import Target, numel
from equipoise.gradients.affine import AffineLayer, affine_layers, without_parameters
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.linalg import gramian, l2_norm, row_norms
from equipoise.gradients.passes import Passes


class FactoredGradients(Gradients):
    """Gradients of which the parts at affine layers are kept as gradients of their outputs.

    Norms, Gramian and combinations are exact and cheap; columns are made when asked for.

    Args:
        rows: ``[T, W]``: gradients of each layer's outputs, then those of the other targets.
        layers: The layers, in the order of the columns.
        targets: What the gradients are taken with respect to.
    """

    def __init__(
        self, rows: Tensor, layers: Sequence[AffineLayer], targets: Sequence[Target]
    ) -> None:
        self._rows = rows
        self._layers = layers
        self._targets = targets
        self._others = list(without_parameters(layers, targets))
        self._widths = [*(layer.width for layer in layers), *map(numel, self._others)]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def sizes(self) -> list[int]:
        """How many columns belong to each tensor."""
        return [numel(target) for target in self._targets]

    @property
    def like(self) -> Tensor:
        """What is kept."""
        return self._rows

    def columns(self) -> Tensor:
        """The ``[T, P]`` Jacobian, made for the caller."""
        return torch.stack([torch.cat(self._unfolded(row)) for row in self._rows])

    def combine(self, weights: Tensor) -> Tensor:
        """The ``[P]`` combined gradient, from the combined gradients of the outputs."""
        return torch.cat(self.parts(weights))

    def parts(self, weights: Tensor) -> list[Tensor]:
        """The combined gradient of each target, flat, each its own memory.

        Args:
            weights: ``[T]``.
        """
        return self._unfolded(weights.to(self._rows.dtype) @ self._rows)

    def _unfolded(self, row: Tensor) -> list[Tensor]:
        kept = row.split(self._widths)
        found: dict[Target, Tensor] = {}
        for layer, outputs in zip(self._layers, kept, strict=False):
            found.update(zip(layer.parameters, layer.gradients(outputs), strict=True))
        others = zip(self._others, kept[len(self._layers) :], strict=True)
        found.update((target, part.clone()) for target, part in others)
        return [found[target] for target in self._targets]

    def _measure_gram(self) -> Tensor:
        return torch.stack([gramian(part) for part in self._folded()]).sum(dim=0)

    def _measure_norms(self) -> Tensor:
        norms = torch.stack([row_norms(part) for part in self._folded()])
        return norms.square().sum(dim=0).sqrt()

    def _folded(self) -> Iterator[Tensor]:
        """Parts whose inner products add up to those of the gradients, one alive at a time."""
        kept = self._rows.split(self._widths, dim=1)
        for layer, outputs in zip(self._layers, kept, strict=False):
            yield layer.folded(outputs)
        yield self._rows[:, sum(self._widths[: len(self._layers)]) :]


def ending_at(passes: Passes, layers: Sequence[AffineLayer]) -> Passes:
    """The same passes, of which those to the layers end at their outputs."""
    edges = [edge for layer in layers for edge in layer.edges]
    return replace(passes, targets=[*edges, *without_parameters(layers, passes.targets)])


def factorable(passes: Passes) -> list[AffineLayer]:
    """The affine layers among the targets of passes whose gradients need no other process."""
    if passes.average is not None or passes.pool is not None:
        return []  # each process has rows of its own
    if any(isinstance(t, Tensor) and passes.holder(t) is not t for t in passes.targets):
        return []
    losses = [loss for loss in passes.losses if loss is not None]
    return affine_layers(losses, passes.targets)


def affine_norms(passes: Passes) -> Tensor | None:
    """The gradient norm of each loss, from passes that end at the outputs of affine layers.

    One gradient is alive at a time.

    Args:
        passes: Their targets are what norms are taken of.

    Returns:
        ``[T]``, or ``None`` where there is no affine layer with so few rows that this pays.
    """
    count = len(passes.losses)
    layers = [layer for layer in factorable(passes) if layer.pays_for_norms(count)]
    if not layers:
        return None
    above = replace(ending_at(passes, layers), own=())
    norms = torch.stack([_norm(above, layers, i) for i in range(count)])
    passes.reached = above.reached
    return norms


def _norm(above: Passes, layers: Sequence[AffineLayer], i: int) -> Tensor:
    found = iter(above.row(i))
    parts: list[Tensor] = []
    for layer in layers:
        outputs = [next(found) for _ in layer.edges]
        if any(part is not None for part in outputs):
            sizes = [numel(edge) for edge in layer.edges]
            filled = zip(outputs, sizes, strict=True)
            kept = [layer.inputs.new_zeros(n) if p is None else p.flatten() for p, n in filled]
            parts.append(layer.folded(torch.cat(kept)))
    parts.extend(part for part in found if part is not None)
    return l2_norm(parts) if parts else above.like.new_zeros(())
