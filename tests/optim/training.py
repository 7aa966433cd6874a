"""A small network with two losses, and its training."""

from __future__ import annotations

import torch
from torch import nn


class TwoHeads(nn.Module):
    """A trunk, and a head of its own for each of two losses of different size."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(4, 6, dtype=dtype)
        self.left = nn.Linear(6, 1, dtype=dtype)
        self.right = nn.Linear(6, 1, dtype=dtype)

    def forward(self, x):
        shared = self.trunk(x).tanh()
        return {"left": self.left(shared).square().mean(), "right": self.far(shared)}

    def far(self, shared):
        return 1000 * (self.right(shared) - 1).square().mean()


def batches(count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 4, generator=generator, dtype=dtype) for _ in range(count)]


def train(model, optimizer, data):
    for x in data:
        optimizer.zero_grad()
        optimizer.backward(model(x))
        optimizer.step()


def assert_equal_models(one, other, **tolerance):
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, **(tolerance or {"rtol": 0, "atol": 0}))


def snapshot(model, optimizer):
    values = [p.detach().clone() for p in model.parameters()]
    states = [
        value.clone() for p in model.parameters() for _, value in sorted(optimizer.state[p].items())
    ]
    return values + states
