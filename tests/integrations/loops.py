"""A model with three losses, its data, and the plain loop that every framework must equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.balancer import Balancer
from equipoise.optim.base import MultiTermOptimizer
from tests.methods import make
from tests.models import MultiHead

LOSSES = ["a", "b", "c"]


class ThreeLosses(nn.Module):
    """Maps a batch to a dictionary of losses, at least in float32."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = MultiHead(3, dtype=dtype)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        losses = self.net(x)
        dtype = torch.promote_types(losses[0].dtype, torch.float32)
        return {name: loss.to(dtype) for name, loss in zip(LOSSES, losses, strict=True)}


def batches(count: int, rows: int = 4, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(rows, 4, generator=generator, dtype=torch.float64).to(dtype)
        for _ in range(count)
    ]


def balancer_of(name: str) -> Balancer:
    """A method that draws the same random numbers each time it is made."""
    torch.manual_seed(7)
    return make(name)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def plain_loop(
    balancer: Balancer,
    data: Sequence[Tensor],
    *,
    accumulate: int = 1,
    dtype: torch.dtype = torch.float64,
    autocast: torch.dtype | None = None,
    backward: Callable[[Tensor], object] | None = None,
) -> nn.Module:
    """Trains without any framework.

    Weights are learned at the first of ``accumulate`` batches. The backward pass runs outside of
    autocast, as PyTorch has it: what a framework calls inside must come to the same.
    """
    model = ThreeLosses(dtype=dtype)
    optimizer = sgd(model)
    if accumulate > 1:
        backward = lambda loss: (loss / accumulate).backward()  # noqa: E731
    lowered = torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None)
    for i, x in enumerate(data):
        with lowered:
            losses = model(x)
        frozen = nullcontext() if i % accumulate == 0 else balancer.frozen()
        with frozen:
            balancer.backward(losses, backward=backward)
        if (i + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return model


def multi_term_loop(
    kind: Callable[..., MultiTermOptimizer[Any]],
    data: Sequence[Tensor],
    *,
    accumulate: int = 1,
    dtype: torch.dtype = torch.float64,
) -> nn.Module:
    """Trains with a multi-term optimizer and no framework; micro-batches are added up."""
    model = ThreeLosses(dtype=dtype)
    optimizer = kind(model.parameters())
    for i, x in enumerate(data):
        last = (i + 1) % accumulate == 0
        with nullcontext() if last else optimizer.accumulate():
            optimizer.backward({name: loss / accumulate for name, loss in model(x).items()})
        if last:
            optimizer.step()
            optimizer.zero_grad()
    return model


def difference(left: nn.Module, right: nn.Module) -> float:
    """The largest between parameters of the same name."""
    own = dict(left.named_parameters())
    return max(float((p - own[name]).detach().abs().max()) for name, p in right.named_parameters())
