"""Trains with recorders and seldom checkpoints; made to be killed. Run by `test_killed`."""

from __future__ import annotations

import os
from pathlib import Path

import torch

import equipoise as eq
from tests.models import MultiHead

STEPS = 60
NAMES = ["a", "b", "c"]


def build(folder: Path) -> dict[str, tuple]:
    found = {}
    for kind in ("gradnorm", "mtadam"):
        torch.manual_seed(0)
        model = MultiHead(3)
        if kind == "mtadam":
            taught = optimizer = eq.MTAdam(model.parameters(), lr=0.01, losses=NAMES)
        else:
            taught, optimizer = eq.GradNorm(NAMES), torch.optim.Adam(model.parameters(), lr=0.01)
        eq.Recorder(taught, folder / kind, every=2, measure=5)
        found[kind] = model, taught, optimizer
    return found


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    runs = build(folder)
    saved = folder / "checkpoint.pt"
    start = 0
    if saved.exists():
        checkpoint = torch.load(saved, weights_only=True)
        start = checkpoint["step"]
        for name, parts in runs.items():
            for part, state in zip(parts, checkpoint[name], strict=True):
                part.load_state_dict(state)
    for step in range(start, STEPS):
        x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        for model, balancer, optimizer in runs.values():
            losses = dict(zip(NAMES, model(x), strict=True))
            if step % 7 == 3:
                losses["b"] = losses["b"] * torch.nan
            optimizer.zero_grad()
            balancer.backward(losses)
            optimizer.step()
        if step % 7 == 6:
            states = {name: [p.state_dict() for p in parts] for name, parts in runs.items()}
            torch.save({"step": step + 1, **states}, folder / "next.pt")
            os.replace(folder / "next.pt", saved)  # noqa: PTH105
        with (folder / "taken").open("a") as file:
            file.write(f"{step}\n")
