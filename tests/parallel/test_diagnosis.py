"""Several processes observe parts of each batch, and find what one with the whole batch does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import equipoise as eq
from tests.parallel.ranks import together
from tests.releases import shards_on_a_cpu

BATCHES, SAMPLES = 6, 16


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(4, 8)
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(2))

    def forward(self, x: Tensor) -> list[Tensor]:
        hidden = self.trunk(x).tanh()
        return [(head(hidden) - x.sum(dim=1, keepdim=True)).square().mean() for head in self.heads]


def samples() -> Tensor:
    return torch.randn(BATCHES, SAMPLES, 4, generator=torch.Generator().manual_seed(1))


def losses_of(outputs: list[Tensor], number: int, rank: int, kind: str) -> dict[str, Tensor]:
    losses = dict(zip(("a", "b"), outputs, strict=True))
    losses["b"] = 40 * losses["b"]
    if kind == "nan" and number == 2 and rank == 1:
        losses["a"] = losses["a"] * float("nan")
    if kind == "absent" and number in (3, 4):
        del losses["a"]
    return losses


def observe(rank: int, world: int, kind: str) -> dict[str, object]:
    model = Model()
    net = DistributedDataParallel(model) if world > 1 else model
    diagnosis = eq.Diagnosis(["a", "b"])
    for number, batch in enumerate(samples()):
        part = batch.chunk(world)[rank]
        losses = losses_of(net(part), number, rank, kind)
        diagnosis.observe(losses)
        sum(losses.values()).backward()  # the wrapper's hooks still fire, once
    gradients = [float(parameter.grad.nan_to_num().sum()) for parameter in model.parameters()]
    return {"found": diagnosis.to_dict(), "gradients": gradients}


@pytest.mark.parametrize("kind", ["whole", "nan"])
def test_every_process_has_the_verdict_of_the_whole_batch(kind, tmp_path):
    ranks = together(observe, 2, tmp_path / "ranks", kind)
    assert ranks[0]["found"] == ranks[1]["found"]
    found = ranks[0]["found"]
    assert found["verdict"] in ("scale", "both")
    assert found["losses"]["a"]["nonfinite"] == (1 if kind == "nan" else 0)
    if kind == "whole":
        alone = observe(0, 1, kind)
        for name in ("a", "b"):
            mine, whole = found["losses"][name], alone["found"]["losses"][name]
            assert mine["norm"] == pytest.approx(whole["norm"], rel=1e-5)
            assert mine["adam_share"] == pytest.approx(whole["adam_share"], rel=1e-4)
        assert found["verdict"] == alone["found"]["verdict"]
        assert ranks[0]["gradients"] == pytest.approx(alone["gradients"], rel=1e-4)


def observe_shards(rank: int, _world: int) -> str:
    model = Model()
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(model, mesh=mesh)
    diagnosis = eq.Diagnosis(["a", "b"])
    part = samples()[0].chunk(2)[rank]
    try:
        diagnosis.observe(losses_of(model(part), 0, rank, "whole"))
    except TypeError as error:
        return str(error)
    return "no error"


@shards_on_a_cpu
def test_shards_are_refused_with_a_sentence(tmp_path):
    messages = together(observe_shards, 2, tmp_path / "ranks")
    assert all("needs whole gradients" in message for message in messages)


def observe_uneven(rank: int, world: int) -> dict[str, object]:
    """After a first batch, one process lacks a loss from time to time."""
    model = Model()
    net = DistributedDataParallel(model, find_unused_parameters=True)
    diagnosis = eq.Diagnosis(["a", "b"])
    for number, batch in enumerate(samples()):
        losses = losses_of(net(batch.chunk(world)[rank]), number, rank, "whole")
        if number % 2 and rank == 1:
            del losses["a"]
        diagnosis.observe(losses)
        sum(losses.values()).backward()
    return diagnosis.to_dict()


def test_processes_with_different_losses_find_the_same(tmp_path):
    first, second = together(observe_uneven, 2, tmp_path / "ranks")
    assert first == second
    assert first["losses"]["a"]["batches"] == BATCHES
