"""Logging by hand: `report()` is a flat mapping of floats, which every tracker takes as it is.

pip install equipoise tensorboard
python examples/logging_report.py
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import equipoise as eq


def train(writer: SummaryWriter) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = eq.MTAdam(model.parameters(), lr=3e-3)
    for step in range(100):
        x = torch.randn(32, 4)
        near, far = (model(x) - torch.stack([x[:, 0], 9 * x[:, 1]], dim=1)).square().mean(dim=0)
        optimizer.zero_grad()
        optimizer.backward({"near": near, "far": far})
        optimizer.step()
        if step % 10 == 0:
            for name, number in optimizer.report().items():
                writer.add_scalar(name, number, step)


def main() -> None:
    with TemporaryDirectory() as folder:
        with SummaryWriter(folder) as writer:
            train(writer)
        kept = EventAccumulator(folder).Reload()
        for name in kept.Tags()["scalars"]:
            points = kept.Scalars(name)
            print(f"{name:14} {len(points)} points, the last {points[-1].value:.3g}")


if __name__ == "__main__":
    main()
