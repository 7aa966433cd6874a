"""Trains with both multi-term optimizers, a checkpoint a step; made to be killed."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from equipoise.optim import AutoBalance, MTAdam
from tests.optim.training import TwoHeads

STEPS = 60


def build():
    own = {"amsgrad": True, "granularity": "layer", "ranks": {"right": 2.0}}
    for kind, options in ((MTAdam, own), (AutoBalance, {})):
        model = TwoHeads()
        yield model, kind(model.named_parameters(), lr=0.01, losses=["left", "right"], **options)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    runs = list(build())
    parts = [part for run in runs for part in run]
    saved = folder / "checkpoint.pt"
    start = 0
    if saved.exists():
        checkpoint = torch.load(saved, weights_only=True)
        start = checkpoint["step"]
        for part, state in zip(parts, checkpoint["states"], strict=True):
            part.load_state_dict(state)
    for step in range(start, STEPS):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(5, 4, dtype=torch.float64, generator=generator)
        for model, optimizer in runs:
            losses = model(x)
            if step % 5 == 2:
                del losses["right"]
            if step % 7 == 4:
                losses["left"] = losses["left"] * torch.nan
            optimizer.zero_grad()
            optimizer.backward(losses)
            optimizer.step()
        states = [part.state_dict() for part in parts]
        torch.save({"step": step + 1, "states": states}, folder / "next.pt")
        os.replace(folder / "next.pt", saved)  # noqa: PTH105
