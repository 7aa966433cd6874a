"""Hydra: the method is a group of the configuration, and each of its options an override.

    pip install equipoise hydra-core
    python examples/hydra_training.py balancer=uncertainty
    python examples/hydra_training.py balancer=gradnorm balancer.alpha=1.5
    python examples/hydra_training.py --multirun balancer=equal,gradnorm,uncertainty
"""

from __future__ import annotations

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

SCALES = torch.tensor([1.0, 30.0])


def targets_of(x: Tensor) -> Tensor:
    return SCALES * torch.stack([x[:, 0].sin(), x[:, 1].cos()], dim=1)


@hydra.main(version_base=None, config_path="conf", config_name="training")
def main(config: DictConfig) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
    balancer = instantiate(config.balancer)
    optimizer = instantiate(config.optimizer)(model.parameters())
    for _ in range(config.steps):
        x = torch.randn(64, 4)
        near, far = (model(x) - targets_of(x)).square().mean(dim=0)
        optimizer.zero_grad()
        balancer.backward({"near": near, "far": far})
        optimizer.step()
    x = torch.randn(1000, 4)
    with torch.no_grad():
        left = (model(x) - targets_of(x)).square().mean(dim=0) / targets_of(x).var(dim=0)
    print(balancer)
    print(f"variance left open: near {left[0]:.1%}, far {left[1]:.1%}")


if __name__ == "__main__":
    main()
