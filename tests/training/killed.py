"""Trains with every method, a checkpoint a step; made to be killed. Run by `test_resumption`."""

from __future__ import annotations

import os
from pathlib import Path

import torch

import equipoise as eq
from tests.methods import NAMES, make
from tests.models import MultiHead

STEPS = 20


def build(name: str) -> tuple:
    torch.manual_seed(0)
    model = MultiHead(3)
    if name == "mtadam":
        optimizer = eq.MTAdam(model.parameters(), lr=0.01, losses=["a", "b", "c"])
        return model, optimizer, optimizer
    return model, make(name), torch.optim.Adam(model.parameters(), lr=0.01)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    runs = {name: build(name) for name in [*NAMES, "mtadam"]}
    saved = folder / "checkpoint.pt"
    start = 0
    if saved.exists():
        checkpoint = torch.load(saved, weights_only=True)
        start = checkpoint["step"]
        for name, parts in runs.items():
            for part, state in zip(parts, checkpoint[name], strict=True):
                part.load_state_dict(state)
    for step in range(start, STEPS):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(5, 4, dtype=torch.float64, generator=generator)
        for model, balancer, optimizer in runs.values():
            losses = dict(zip("abc", model(x), strict=True))
            if step % 7 == 3:
                del losses["b"]
            optimizer.zero_grad()
            balancer.backward(losses)
            optimizer.step()
        states = {name: [p.state_dict() for p in parts] for name, parts in runs.items()}
        torch.save({"step": step + 1, **states}, folder / "next.pt")
        os.replace(folder / "next.pt", saved)  # noqa: PTH105
