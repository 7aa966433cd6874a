"""Logging: every tenth step on record, with norms and cosines at every fiftieth, and in a tracker.

pip install equipoise
python examples/logging_runs.py
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

import equipoise as eq


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    balancer = eq.Uncertainty(["near", "far"])
    with TemporaryDirectory() as folder:
        recorder = eq.Recorder(balancer, folder, every=10, measure=50)
        recorder.track(lambda numbers, step: print(step, numbers) if step == 50 else None)
        for _ in range(100):
            x = torch.randn(32, 4)
            near, far = (model(x) - torch.stack([x[:, 0], 9 * x[:, 1]], dim=1)).square().mean(dim=0)
            optimizer.zero_grad()
            balancer.backward({"near": near, "far": far})
            optimizer.step()
        lines = (Path(folder) / "record.jsonl").read_text().splitlines()
        print(len(lines), "lines in record.jsonl")


if __name__ == "__main__":
    main()
