"""The models that steps are priced on: a trunk that all losses share, and what is their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Outputs(NamedTuple):
    """One forward pass, or one for each loss.

    Attributes:
        shared: The representation that all losses are made of, ``[batch, features]``; ``None``
            where each loss has a forward pass of its own.
        losses: The ``T`` losses.
    """

    shared: Tensor | None
    losses: list[Tensor]


class PricedModel(nn.Module):
    """A trunk that all losses share.

    Attributes:
        trunk: What gradients are taken of, and passes counted on.
        inputs: Its data.
        count: How many losses, ``T``.
    """

    trunk: nn.Sequential
    inputs: Tensor
    count: int

    def forward(self) -> Outputs:
        """All losses of one step."""
        raise NotImplementedError

    if TYPE_CHECKING:

        def __call__(self) -> Outputs:
            """What `forward` returns; for `nn.Module` it could be anything."""

    @property
    def last_shared_weight(self) -> Tensor:
        """The matrix of the trunk that is nearest to its output."""
        return [parameter for parameter in self.trunk.parameters() if parameter.ndim > 1][-1]

    @property
    def parameter_bytes(self) -> int:
        """The size of all parameters, the unit of the memory measurements."""
        return sum(parameter.nbytes for parameter in self.parameters())


class SharedTrunk(PricedModel):
    """A trunk, ``T`` heads with a squared error each, and one batch of random data.

    Args:
        trunk: Ends in ``[batch, features]``.
        features: The width of that representation.
        inputs: One batch.
        losses: How many heads, ``T``.
    """

    targets: Tensor

    def __init__(self, trunk: nn.Sequential, features: int, inputs: Tensor, losses: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.count = losses
        self.heads = nn.ModuleList(nn.Linear(features, 1) for _ in range(losses))
        self.register_buffer("inputs", inputs)
        self.register_buffer("targets", torch.randn(losses, len(inputs), 1))

    def forward(self) -> Outputs:
        """One forward pass over the batch."""
        shared = self.trunk(self.inputs)
        pairs = zip(self.heads, self.targets, strict=True)
        return Outputs(shared, [F.mse_loss(head(shared), target) for head, target in pairs])


class Residuals(PricedModel):
    """A field of two coordinates, and ``T`` residuals of Helmholtz's equation on their own points.

    Each loss has a forward pass of its own, with second derivatives: the graphs of physics-informed
    training share parameters, and nothing else.

    Args:
        trunk: Takes ``[points, 2]``, ends in ``[points, 1]``.
        points: How many for each loss.
        losses: How many losses, ``T``.
    """

    def __init__(self, trunk: nn.Sequential, points: int, losses: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.count = losses
        self.register_buffer("inputs", 2 * torch.rand(losses, points, 2) - 1)

    def forward(self) -> Outputs:
        """One forward pass for each loss."""
        return Outputs(None, [self._residual(points) for points in self.inputs])

    def _residual(self, points: Tensor) -> Tensor:
        points = points.requires_grad_()
        field = self.trunk(points)
        (slope,) = torch.autograd.grad(field.sum(), points, create_graph=True)
        curvature = [
            torch.autograd.grad(slope[:, i].sum(), points, create_graph=True)[0][:, i]
            for i in range(points.shape[1])
        ]
        return (sum(curvature, field[:, 0]) - points.prod(dim=1)).square().mean()


def mlp(losses: int, *, width: int = 1024, depth: int = 4, batch: int = 256) -> SharedTrunk:
    """A multilayer perceptron.

    Args:
        losses: How many heads, ``T``.
        width: Of inputs and of every layer.
        depth: Layers of the trunk.
        batch: Samples a step.

    Returns:
        The model.
    """
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
    return SharedTrunk(nn.Sequential(*layers), width, torch.randn(batch, width), losses)


def conv(losses: int) -> SharedTrunk:
    """A small convolutional network on 32 images of 32 x 32 pixels.

    Args:
        losses: How many heads, ``T``.

    Returns:
        The model.
    """
    trunk = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return SharedTrunk(trunk, 128, torch.randn(32, 3, 32, 32), losses)


class _MeanToken(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.mean(dim=1)


def transformer(losses: int) -> SharedTrunk:
    """A transformer encoder of 4 layers on 8 sequences of 64 tokens of width 128.

    Args:
        losses: How many heads, ``T``.

    Returns:
        The model.
    """
    layers = [
        nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True) for _ in range(4)
    ]
    trunk = nn.Sequential(nn.Linear(128, 128), *layers, _MeanToken())
    return SharedTrunk(trunk, 128, torch.randn(8, 64, 128), losses)


def pinn(losses: int, *, width: int = 64, depth: int = 4, points: int = 128) -> Residuals:
    """A physics-informed network.

    Args:
        losses: How many residuals, ``T``.
        width: Of every hidden layer.
        depth: Hidden layers.
        points: For each residual.

    Returns:
        The model.
    """
    widths = [2, *(width for _ in range(depth))]
    hidden = [layer for n, m in pairwise(widths) for layer in (nn.Linear(n, m), nn.Tanh())]
    return Residuals(nn.Sequential(*hidden, nn.Linear(width, 1)), points, losses)


MODELS: Mapping[str, Callable[[int], PricedModel]] = MappingProxyType(
    {"mlp": mlp, "conv": conv, "transformer": transformer, "pinn": pinn}
)


def build_model(name: str, losses: int, device: torch.device) -> PricedModel:
    """A model with the same parameters and data at each call.

    Args:
        name: A key of `MODELS`.
        losses: How many heads, ``T``.
        device: Where it lies.

    Returns:
        The model.
    """
    torch.manual_seed(0)
    return MODELS[name](losses).to(device)
