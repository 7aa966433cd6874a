"""Data parallel: the same call on every process; weights are the same on all of them.

    pip install equipoise
    torchrun --nproc-per-node 2 examples/ddp.py

Without `torchrun` the script starts two processes itself.
"""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

import equipoise as eq


class Network(nn.Module):
    """A shared trunk and two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 32), nn.Tanh())
        self.near, self.far = nn.Linear(32, 1), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.trunk(x)
        return self.near(hidden)[:, 0], self.far(hidden)[:, 0]


def train() -> None:
    torch.manual_seed(0)
    model = DistributedDataParallel(Network())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    balancer = eq.PCGrad(["near", "far"])
    torch.manual_seed(distributed.get_rank())  # each process has data of its own
    for _ in range(50):
        x = torch.randn(32, 8)
        near, far = model(x)
        optimizer.zero_grad()
        balancer.backward(
            {
                "near": (near - x[:, 0].sin()).square().mean(),
                "far": (far - 30 * x[:, 1].sin()).square().mean(),
            }
        )
        optimizer.step()
    weights = torch.tensor(list(balancer.weights.values()))
    everywhere = [torch.empty_like(weights) for _ in range(distributed.get_world_size())]
    distributed.all_gather(everywhere, weights)
    if distributed.get_rank() == 0:
        print("weights agree:", all(torch.equal(weights, other) for other in everywhere))
        print(", ".join(f"{key} {value:.3g}" for key, value in balancer.report().items()))


def one_of_two(rank: int, meeting: str) -> None:
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    train()
    distributed.destroy_process_group()


def main() -> None:
    if "RANK" in os.environ:
        distributed.init_process_group()
        train()
        distributed.destroy_process_group()
        return
    with TemporaryDirectory() as folder:
        multiprocessing.spawn(one_of_two, (f"file://{folder}/meeting",), nprocs=2)


if __name__ == "__main__":
    main()
