"""One process of a training with DeepSpeed on the CPU; see `test_deepspeed`.

python deepspeed_processes.py STAGE METHOD WRT INSIDE
"""

from __future__ import annotations

import os
import sys
import traceback

import deepspeed
import torch
from torch import Tensor, nn

import equipoise as eq

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # compiled, and needs shared memory


class Tasks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(2))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.trunk(x)
        up, down = (head(features) for head in self.heads)
        return [(up - 1).square().mean(), 10 * (down + 1).square().mean()]


def engine_of(stage: int) -> deepspeed.DeepSpeedEngine:
    torch.manual_seed(0)
    model = Tasks()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05)
    settings = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": stage},
    }
    return deepspeed.initialize(model=model, optimizer=sgd, config=settings)[0]


def main(stage: int, method: str, wrt: str | None, *, inside: bool) -> None:
    """Trains by a balancer, and beside it a copy by DeepSpeed alone with the weights it found."""
    deepspeed.init_distributed("gloo")
    rank = torch.distributed.get_rank()
    ours, theirs = engine_of(stage), engine_of(stage)
    balancer = eq.create_balancer(method, 2, **({} if wrt is None else {"wrt": wrt}))
    start = torch.stack(theirs(torch.ones(4, 4))).detach()
    for step in range(4):
        x = torch.randn(4, 4, generator=torch.Generator().manual_seed(10 * step + rank))
        losses = ours(x) if inside else ours.module(x)
        record = balancer.backward(losses, backward=ours.backward)
        ours.step()
        weights = record.weights.detach()
        plain = theirs(x)
        theirs.backward(sum(w * loss for w, loss in zip(weights, plain, strict=True)))
        theirs.step()
    x = torch.ones(4, 4)
    found, expected = torch.stack(ours(x)), torch.stack(theirs(x))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert (found - start).abs().min() > 0.01, "the training stands still"


if __name__ == "__main__":
    _, stage, method, wrt, inside = sys.argv
    try:
        main(int(stage), method, None if wrt == "-" else wrt, inside=inside == "inside")
    except (TypeError, RuntimeError, AssertionError):
        # The traceback keeps engines alive, which wait for ever at the exit.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
