"""Representations with parts that are no stacks of samples, on several processes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from equipoise import SharingError
from equipoise.autograd.samples import same_everywhere
from equipoise.autograd.shared import representation
from tests.methods import make
from tests.models import batch
from tests.parallel.ranks import together
from tests.parallel.test_fsdp import parameters
from tests.releases import shards_on_a_cpu

METHODS = ("imtlg", "imtl", "gradientshares", "mgda", "trimmedmean")


class Skipping(nn.Module):
    """Heads see the trunk's output, a weight at a skip connection, and a learned query."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.trunk = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.skip = nn.Parameter(torch.linspace(0.5, 1.5, 5))
        self.query = nn.Parameter(torch.linspace(-1, 1, 5))
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(3))
        self.double()

    def forward(self, x: Tensor) -> list[Tensor]:
        hidden, beside = self.trunk(x), self.skip
        if self.kind == "computed":
            beside = 2 * self.skip.tanh() + self.query
        if self.kind == "repeated":
            beside = self.query.expand(len(x), -1) * 2
        losses = [(head(hidden * beside + beside) - i) for i, head in enumerate(self.heads)]
        return [(i + 1) * loss.square().mean() for i, loss in enumerate(losses)]


def train(kind: str, name: str, rank: int, world: int, wrapper: str) -> Tensor:
    torch.manual_seed(0)
    model = net = Skipping(kind)
    if wrapper == "ddp":
        net = DistributedDataParallel(model, find_unused_parameters=True)
    if wrapper == "fsdp":
        fully_shard(model)
    balancer = make(name, wrt="representation")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(3):
        x = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        balancer.backward(dict(zip("abc", net(x.chunk(world)[rank]), strict=True)))
        optimizer.step()
    return parameters(model)


CASES = [
    (kind, name, wrapper)
    for kind in ("leaf", "computed", "repeated")
    for name in METHODS
    for wrapper in ("plain", "ddp", "fsdp")
]


def battery(rank: int, world: int) -> dict[tuple[str, str, str], Tensor]:
    return {(k, n, w): train(k, n, rank, world, w) for k, n, w in CASES}


@shards_on_a_cpu
def test_processes_equal_one_whatever_a_representation_is_made_of(tmp_path) -> None:
    ranks = together(battery, 2, tmp_path / "2")
    for kind, name, wrapper in CASES:
        alone = train(kind, name, 0, 1, "plain")
        for found in ranks:
            torch.testing.assert_close(found[kind, name, wrapper], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "same"),
    [("leaf", [False, True]), ("computed", [False, True]), ("repeated", [False, False])],
)
def test_what_is_the_same_everywhere_is_told_by_the_graph(kind, same) -> None:
    found = same_everywhere(representation(Skipping(kind)(batch(6))))
    assert sorted(found) == same


def test_parts_of_different_lengths_are_refused() -> None:
    hidden = Skipping("leaf").trunk(batch(6))
    with pytest.raises(SharingError, match="wrt='shared'"):
        same_everywhere((hidden, hidden.mean(0)))
