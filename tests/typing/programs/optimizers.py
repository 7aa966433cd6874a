"""Optimizers that take several losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

import equipoise as eq


def losses_of(network: nn.Linear) -> dict[str, Tensor]:
    near, far = network(torch.ones(4, 3)).square().mean(dim=0)
    return {"near": near, "far": far}


def with_scheduler(network: nn.Linear) -> list[float]:
    optimizer = eq.MTAdam(network.parameters(), lr=1e-2, betas=(0.9, 0.99, 0.9), ranks=[1.0, 0.5])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for _ in range(2):
        optimizer.backward(losses_of(network))
        optimizer.step()
        scheduler.step()
    return [float(rate) for rate in scheduler.get_last_lr()]


def with_closure(network: nn.Linear) -> float:
    groups: list[dict[str, Any]] = [{"params": network.weight, "lr": 0.1}, {"params": network.bias}]
    optimizer = eq.MTAdam(groups)

    def closure() -> dict[str, Tensor]:
        return losses_of(network)

    losses = optimizer.step(closure)
    assert isinstance(losses, dict)
    return sum(float(loss.detach()) for loss in losses.values())


def accumulated(optimizer: eq.MTAdam | eq.AutoBalance, network: nn.Linear) -> None:
    with optimizer.accumulate():
        optimizer.backward(losses_of(network))
    optimizer.backward(losses_of(network), scaler=GradScaler("cpu", enabled=False))
    optimizer.step()


def told(optimizer: eq.MTAdam, network: nn.Linear) -> dict[str, float]:
    recorder = eq.Recorder(optimizer)
    optimizer.backward(losses_of(network))
    optimizer.step()
    recorder.close()
    record: eq.Record | None = optimizer.last
    assert record is not None
    assert optimizer.report()["total"] == float(record.total)
    return optimizer.weights


def resumed(network: nn.Linear, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    fresh = eq.AutoBalance(network.parameters(), lr=1e-3)
    fresh.load_state_dict(optimizer.state_dict())
    return fresh


def main() -> None:
    network = nn.Linear(3, 2)
    assert with_scheduler(network) == [0.0025]
    assert with_closure(network) > 0
    optimizer = eq.AutoBalance(network.parameters())
    accumulated(optimizer, network)
    accumulated(eq.MTAdam(network.named_parameters(), fused=False), network)
    resumed(network, optimizer)
    assert set(told(eq.MTAdam(network.parameters()), network)) == {"near", "far"}
