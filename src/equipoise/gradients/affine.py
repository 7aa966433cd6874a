r"""Affine layers of a step's graph, whose gradients need not be formed to be compared.

For $Y = X W^\top + 1 b^\top$ with `N` rows, the gradient of `W` and `b` is $D^\top A$ with
$A = [X, 1]$ and `D` the gradient of `Y`. With $A^\top = Q R$ it is $(Q R D)^\top$, whose inner
products are those of $R D$: `[N, O]` in the place of `[O, I]`, and cheaper the fewer rows there
are. `R` is made once for all losses. Nothing is squared on the way, so no digit is lost where
samples cancel.

Source: Goodfellow, 2015, arXiv:1510.01799 (norms from `D` and `X`); Li, Tramèr, Liang and
Hashimoto, 2022, arXiv:2110.05679, section 4 (for several rows, by Gramians); Bu, Wang, Zha and
Karypis, 2022, arXiv:2210.00038 (`D` kept, and the gradient that is wanted made of it).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from equipoise.autograd.graph import Users, edges_of, users_of
from equipoise.autograd.operations import ADDMM, MM, TRANSPOSE

if TYPE_CHECKING:
    from torch.autograd.graph import Node

_SMALL = 1 << 16  # elements of a weight whose gradient costs less than the search for its layer
_FACTORISATION = 4  # what one operation of it costs, in operations of a plain product
_TOUCH = 20  # what it costs to write an element of a gradient and read it, in such operations
_DTYPES = (torch.float32, torch.float64)
_UNKNOWN = "a hook, for all we know"


@dataclass(frozen=True)
class AffineLayer:
    """A weight, perhaps with its bias, that serves nothing but products with rows of data.

    Attributes:
        weight: ``[O, I]``.
        bias: ``[O]``, if each use of the weight adds it.
        edges: The outputs, one for each use.
        inputs: ``[N, I]``, those of all uses, one after the other.
    """

    weight: Tensor
    bias: Tensor | None
    edges: tuple[GradientEdge, ...]
    inputs: Tensor

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The weight, and the bias if there is one."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @property
    def width(self) -> int:
        """How many elements the gradients of the outputs have, ``N * O``."""
        return len(self.inputs) * len(self.weight)

    @cached_property
    def factor(self) -> Tensor:
        """`R`, ``[min(N, I), N]``."""
        columns = self.inputs.T
        if self.bias is not None:
            columns = torch.cat([columns, columns.new_ones(1, columns.shape[1])])
        factor: Tensor = torch.linalg.qr(columns, mode="r").R
        return factor

    def folded(self, outputs: Tensor) -> Tensor:
        """What has the inner products of the parameters' gradients.

        Args:
            outputs: ``[..., N * O]``, gradients of the outputs.

        Returns:
            ``[..., K]``.
        """
        folded: Tensor = self.factor @ self._rows(outputs)
        return folded.flatten(-2)

    def gradients(self, outputs: Tensor) -> list[Tensor]:
        """The gradients of the parameters.

        Args:
            outputs: ``[N * O]``, the gradient of the outputs.

        Returns:
            One flat gradient for each of the parameters.
        """
        rows = self._rows(outputs)
        weight = (rows.T @ self.inputs).flatten()
        return [weight] if self.bias is None else [weight, rows.sum(dim=0)]

    def _rows(self, outputs: Tensor) -> Tensor:
        rows: Tensor = outputs.unflatten(-1, (len(self.inputs), len(self.weight)))
        return rows

    def pays_for_norms(self, losses: int) -> bool:
        """Whether norms cost less than by whole gradients, one alive at a time."""
        rows, columns = self.inputs.shape
        outputs = len(self.weight)
        return losses * outputs * (columns - rows) > _FACTORISATION * columns * rows

    def pays_for_rows(self, losses: int) -> bool:
        """Whether a Gramian and a combination cost less than by rows of whole gradients."""
        rows, columns = self.inputs.shape
        outputs = len(self.weight)
        whole = losses * columns * (rows + _TOUCH)
        factored = losses * rows * (rows + _TOUCH) + rows * columns
        return outputs * whole > outputs * factored + _FACTORISATION * columns * rows * rows


def affine_layers(losses: Sequence[Tensor], targets: Sequence[object]) -> list[AffineLayer]:
    """The affine layers among the targets, in their order.

    Args:
        losses: The live scalars of a step.
        targets: What gradients are taken with respect to.

    Returns:
        Those on a CPU whose parameters serve nothing else, have no hook, and are not small.
    """
    weights = [t for t in targets if isinstance(t, Tensor) and _is_weight(t)]
    if not weights:
        return []
    users = users_of(losses)
    biases = {
        node: bias
        for bias in (t for t in targets if isinstance(t, Tensor) and t.ndim == 1 and _plain(t))
        for node, _ in edges_of([bias])
    }
    found = (_layer(weight, biases, users) for weight in weights)
    return [layer for layer in found if layer is not None]


def _is_weight(parameter: Tensor) -> bool:
    return parameter.ndim == 2 and parameter.numel() >= _SMALL and _plain(parameter)


def _plain(parameter: Tensor) -> bool:
    alone = parameter.is_leaf and not parameter._backward_hooks
    return alone and parameter.device.type == "cpu" and parameter.dtype in _DTYPES


def _layer(weight: Tensor, biases: dict[Node, Tensor], users: Users) -> AffineLayer | None:
    ((leaf, _),) = edges_of([weight])
    nodes: list[Node] = []
    inputs: list[Tensor] = []
    for transpose, _ in users.get(leaf, ()):
        (product, *others) = users.get(transpose, [(transpose, 0)])
        data = _data(*product) if isinstance(transpose, TRANSPOSE) and not others else None
        if data is None or data.dtype != weight.dtype:
            return None
        nodes.append(product[0])
        inputs.append(data)
    if not nodes:
        return None
    edges = tuple(GradientEdge(node, 0) for node in nodes)
    rows = inputs[0] if len(inputs) == 1 else torch.cat(inputs)
    return AffineLayer(weight, _bias(nodes, biases, users, len(weight)), edges, rows)


def _data(node: Node, place: int) -> Tensor | None:
    """The rows `X` that a node multiplies a transposed weight with, as `torch.nn.Linear` does."""
    saved: Any = node  # autograd's nodes show what they saved, but declare it nowhere
    if isinstance(node, ADDMM) and place == 2 and saved._saved_alpha == saved._saved_beta == 1:
        raw, name = saved._raw_saved_mat1, "_saved_mat1"
    elif isinstance(node, MM) and place == 1:
        raw, name = saved._raw_saved_self, "_saved_self"
    else:
        return None
    # To unpack what a checkpoint did not save would run the model again. Releases of torch that do
    # not show the hook take the ordinary pass.
    if getattr(raw, "unpack_hook", _UNKNOWN) is not None:
        return None
    data: Tensor = getattr(saved, name).detach()
    return data


def _bias(
    nodes: Collection[Node], biases: dict[Node, Tensor], users: Users, outputs: int
) -> Tensor | None:
    """The bias that each product adds, if it serves nothing else."""
    leaves = {node.next_functions[0][0] for node in nodes if isinstance(node, ADDMM)}
    leaf = leaves.pop() if len(leaves) == 1 else None
    bias = None if leaf is None else biases.get(leaf)
    if leaf is None or bias is None or len(bias) != outputs:
        return None
    return bias if set(users[leaf]) == {(node, 0) for node in nodes} else None


def without_parameters(layers: Sequence[AffineLayer], targets: Sequence[Any]) -> Iterator[Any]:
    """The targets that are no parameter of the layers."""
    own = {parameter for layer in layers for parameter in layer.parameters}
    return (t for t in targets if not (isinstance(t, Tensor) and t in own))
