"""The models that steps are priced on: a shared trunk and one linear head for each loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Outputs(NamedTuple):
    """One forward pass: the shared representation ``[batch, features]`` and the ``T`` losses."""

    shared: Tensor
    losses: list[Tensor]


class SharedTrunk(nn.Module):
    """A trunk, ``T`` heads with a squared error each, and one batch of random data.

    Args:
        trunk: Ends in ``[batch, features]``.
        features: The width of that representation.
        inputs: One batch.
        losses: How many heads, ``T``.
    """

    inputs: Tensor
    targets: Tensor

    def __init__(self, trunk: nn.Sequential, features: int, inputs: Tensor, losses: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(nn.Linear(features, 1) for _ in range(losses))
        self.register_buffer("inputs", inputs)
        self.register_buffer("targets", torch.randn(losses, len(inputs), 1))

    def forward(self) -> Outputs:
        """One forward pass over the batch."""
        shared = self.trunk(self.inputs)
        pairs = zip(self.heads, self.targets, strict=True)
        return Outputs(shared, [F.mse_loss(head(shared), target) for head, target in pairs])

    @property
    def last_shared_weight(self) -> Tensor:
        """The matrix of the trunk that is nearest to the heads."""
        return [parameter for parameter in self.trunk.parameters() if parameter.ndim > 1][-1]

    @property
    def parameter_bytes(self) -> int:
        """The size of all parameters, the unit of the memory measurements."""
        return sum(parameter.nbytes for parameter in self.parameters())


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


MODELS: Mapping[str, Callable[[int], SharedTrunk]] = MappingProxyType(
    {"mlp": mlp, "conv": conv, "transformer": transformer}
)


def build_model(name: str, losses: int, device: torch.device) -> SharedTrunk:
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
