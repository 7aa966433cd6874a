"""FSDP2: parameters in shards, the same call; the Gramian is summed over the processes, exactly.

    pip install equipoise
    torchrun --nproc-per-node 2 examples/fsdp2.py

Without `torchrun` the script starts two processes itself.
"""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory

import torch
from torch import distributed, multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import equipoise as eq


def train() -> None:
    torch.manual_seed(0)
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 2))
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    balancer = eq.ConFIG(["near", "far"])
    torch.manual_seed(distributed.get_rank())  # each process has data of its own
    for _ in range(50):
        x = torch.randn(32, 8)
        near, far = model(x).T
        optimizer.zero_grad()
        balancer.backward(
            {
                "near": (near - x[:, 0].sin()).square().mean(),
                "far": (far - 30 * x[:, 1].sin()).square().mean(),
            }
        )
        optimizer.step()
    if distributed.get_rank() == 0:
        shard = model[0].weight.to_local()
        print(f"here {tuple(shard.shape)} of {tuple(model[0].weight.shape)} of the first layer")
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
