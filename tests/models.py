"""Small networks with several losses, and slow gradients to compare with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch._dynamo
import torch._functorch.config
import torch._inductor.config
from torch import Tensor, nn


class MultiHead(nn.Module):
    """A trunk of two layers and one linear head a loss."""

    def __init__(self, heads: int = 3, width: int = 5, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(heads))
        self.to(dtype)

    def forward(self, x: Tensor) -> list[Tensor]:
        hidden = self.trunk(x)
        return [(i + 1) * (head(hidden) - i).square().mean() for i, head in enumerate(self.heads)]


@contextmanager
def fresh_compiler() -> Iterator[None]:
    """Nothing compiled before counts, be it in this process or kept on the disk.

    A function that the disk keeps was compiled for whoever came first, and may give its buffers
    away to one who passes it several times.
    """
    torch._dynamo.reset()
    inductor = torch._inductor.config.patch(fx_graph_cache=False)
    with inductor, torch._functorch.config.patch(enable_autograd_cache=False):
        yield


def compile_trunk(model: nn.Module, backend: str = "aot_eager") -> None:
    """As ``model.trunk.compile()``, which until torch 2.13 leaves a bare `Sequential` as it is."""
    model.trunk.forward = torch.compile(model.trunk.forward, backend=backend)


def batch(rows: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(rows, 4, dtype=dtype)


def jacobian(losses: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """[T, P], row by row, zeros where a loss does not reach."""
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        rows.append(
            torch.cat(
                [
                    torch.zeros_like(p).flatten() if g is None else g.flatten()
                    for p, g in zip(parameters, found, strict=True)
                ]
            )
        )
    return torch.stack(rows)


def flat_grad(parameters: Sequence[Tensor]) -> Tensor:
    return torch.cat(
        [
            torch.zeros(p.numel(), dtype=p.dtype) if p.grad is None else p.grad.flatten()
            for p in parameters
        ]
    )
