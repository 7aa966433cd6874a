"""Mixed precision: one scaler, one update a step, and methods that see unscaled gradients.

    pip install equipoise
    python examples/mixed_precision.py

The scaler is switched off where there is no GPU; the lines are the same.
"""

from __future__ import annotations

import torch
from torch import nn

import equipoise as eq


def main() -> None:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float16 if device == "cuda" else torch.bfloat16
    trunk = nn.Sequential(nn.Linear(8, 64), nn.Tanh()).to(device)
    heads = nn.ModuleDict({name: nn.Linear(64, 1) for name in ("near", "far")}).to(device)
    parameters = [*trunk.parameters(), *heads.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    scaler = torch.amp.GradScaler(device, enabled=device == "cuda")
    balancer = eq.GradNorm(["near", "far"])
    for step in range(300):
        x = torch.randn(64, 8, device=device)
        with torch.autocast(device, dtype=dtype):
            hidden = trunk(x)
            near = (heads["near"](hidden)[:, 0].float() - x[:, 0].sin()).square().mean()
            far = (heads["far"](hidden)[:, 0].float() - 30 * x[:, 1].sin()).square().mean()
        optimizer.zero_grad()
        balancer.backward({"near": near, "far": far}, scaler=scaler)
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, 10.0)
        scaler.step(optimizer)
        scaler.update()
        if step % 100 == 99:
            print(step + 1, ", ".join(f"{key} {x:.3g}" for key, x in balancer.report().items()))


if __name__ == "__main__":
    main()
