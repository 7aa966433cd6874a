"""Data-parallel training with real process groups: every method, in and out of a wrapper."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch import multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

import equipoise as eq
from tests.methods import NAMES, make
from tests.models import MultiHead, flat_grad

# One worker runs all of it, so that each set of processes is started once.
pytestmark = pytest.mark.xdist_group("data parallel")

STEPS = 6
CASES = {
    name: (name, {}) for name in NAMES
} | {
    "mgda at the representation": ("mgda", {"wrt": "representation"}),
    "upgrad at the last shared layer": ("upgrad", {"wrt": "last_shared"}),
    "upgrad with plain heads": ("upgrad", {"heads": "plain"}),
    "mgda in three rows": ("mgda", {"measuring": eq.Measuring(rows=3)}),
    "cagrad every third step": ("cagrad", {"every": 3}),
    "gradnorm every third step": ("gradnorm", {"every": 3}),
    "trimmed mean at the representation": ("trimmedmean", {"wrt": "representation"}),
    "gradnorm of first values": ("gradnorm", {"scale": "first_value"}),
    "upgrad of two first values": ("upgrad", {"scale": ("first_value", 2)}),
    "pcgrad with priorities": ("pcgrad", {"priorities": {"b": 3.0}}),
}  # fmt: skip


def data(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randn(12, 4, dtype=torch.float64, generator=generator)


def train(
    case: str, rank: int, world: int, *, wrapped: bool, absent: bool, looking: bool = False
) -> dict[str, object]:
    """Some steps on this process's part of each batch."""
    torch.manual_seed(0)
    model = MultiHead(3)
    name, options = CASES[case]
    torch.manual_seed(rank)  # balancers must not depend on each process's own random numbers
    balancer = make(name, **options)
    net = model
    if wrapped:
        net = DistributedDataParallel(model, find_unused_parameters=absent or looking)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(STEPS):
        part = data(step).chunk(world)[rank]
        losses = dict(zip("abc", net(part), strict=True))
        if absent and step in (2, 4) and rank == world - 1:
            del losses["b"]
        optimizer.zero_grad()
        balancer.backward(losses)
        optimizer.step()
    state = {k: v for k, v in balancer.state_dict().items() if isinstance(v, torch.Tensor)}
    return {
        "parameters": flat_grad([as_grad(p) for p in model.parameters()]),
        "weights": torch.tensor(list(balancer.weights.values())),
        "state": state,
    }


def as_grad(parameter: torch.Tensor) -> torch.Tensor:
    carrier = torch.zeros_like(parameter)
    carrier.grad = parameter.detach()
    return carrier


def work(rank: int, world: int, folder: str, wrapped: bool, absent: bool, looking: bool) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    how = {"wrapped": wrapped, "absent": absent, "looking": looking}
    found = {case: train(case, rank, world, **how) for case in CASES}
    torch.save(found, Path(folder) / f"{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def run(
    folder: Path, world: int, *, wrapped: bool, absent: bool = False, looking: bool = False
) -> list[dict]:
    mp.spawn(work, args=(world, str(folder), wrapped, absent, looking), nprocs=world)
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


@pytest.fixture(scope="module")
def alone() -> dict[str, dict]:
    return {case: train(case, 0, 1, wrapped=False, absent=False) for case in CASES}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((2, True, False), id="2 wrapped"),
        pytest.param((2, True, True), id="2 wrapped, looking for unused parameters"),
        pytest.param((2, False, False), id="2 plain", marks=pytest.mark.slow),
        pytest.param((3, True, False), id="3 wrapped", marks=pytest.mark.slow),
        pytest.param((3, False, False), id="3 plain", marks=pytest.mark.slow),
    ],
)
def together(request, tmp_path_factory) -> list[dict]:
    world, wrapped, looking = request.param
    return run(tmp_path_factory.mktemp("ranks"), world, wrapped=wrapped, looking=looking)


@pytest.fixture(
    scope="module", params=[pytest.param(True, id="wrapped"), pytest.param(False, id="plain")]
)
def with_absent(request, tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    return run(folder, 2, wrapped=request.param, absent=True)


def assert_bit_identical(one: dict, other: dict) -> None:
    assert torch.equal(one["parameters"], other["parameters"])
    for key, tensor in one["state"].items():
        assert torch.equal(tensor.nan_to_num(7e7), other["state"][key].nan_to_num(7e7)), key


@pytest.mark.parametrize("case", CASES)
def test_processes_on_parts_of_a_batch_equal_one_on_the_whole(case, together, alone) -> None:
    for found in together:
        torch.testing.assert_close(
            found[case]["parameters"], alone[case]["parameters"], rtol=1e-6, atol=1e-6
        )
        torch.testing.assert_close(
            found[case]["weights"], alone[case]["weights"], rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("case", CASES)
def test_processes_are_bit_identical_to_each_other(case, together) -> None:
    for other in together[1:]:
        assert_bit_identical(together[0][case], other[case])


@pytest.mark.parametrize("case", CASES)
def test_a_loss_absent_on_one_process_only_keeps_them_identical(case, with_absent) -> None:
    one, other = with_absent
    assert one[case]["parameters"].isfinite().all()
    assert_bit_identical(one[case], other[case])


def start_late(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    torch.manual_seed(0)
    model = MultiHead(3)
    balancer = eq.Equal(["a", "b", "c"])
    for there in ("ab", "ac", "ab", "abc", "c"):
        part = data(len(there)).chunk(world)[rank]
        losses = dict(zip("abc", model(part), strict=True))
        model.zero_grad()
        balancer.backward({name: losses[name] for name in there})
        found = flat_grad(list(model.parameters()))
        torch.save(found, Path(folder) / f"{there}{rank}.pt")
        distributed.barrier()
    distributed.destroy_process_group()


def test_heads_of_losses_that_start_late_are_averaged_in_a_plain_model(tmp_path) -> None:
    mp.spawn(start_late, args=(2, str(tmp_path)), nprocs=2)
    for there in ("ab", "ac", "abc", "c"):
        one, other = (torch.load(tmp_path / f"{there}{rank}.pt") for rank in range(2))
        assert torch.equal(one, other)
        torch.manual_seed(0)
        model = MultiHead(3)
        losses = dict(zip("abc", model(data(len(there))), strict=True))
        sum(losses[name] for name in there).backward()
        torch.testing.assert_close(one, flat_grad(list(model.parameters())))


@pytest.fixture
def group(tmp_path):
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield distributed.new_group([0])
    distributed.destroy_process_group()


def test_copy_of_a_trained_balancer_keeps_its_group_and_goes_on_alike(group) -> None:
    models = [MultiHead(3)]
    balancers = [make("gradnorm", process_group=group)]
    balancers[0].backward(dict(zip("abc", models[0](data(0)), strict=True)))
    copied = copy.deepcopy((models[0], balancers[0]))
    models.append(copied[0])
    balancers.append(copied[1])
    for model, balancer in zip(models, balancers, strict=True):
        assert balancer.processes.group is group
        model.zero_grad()
        balancer.backward(dict(zip("abc", model(data(1)), strict=True)))
    one, other = (flat_grad(list(model.parameters())) for model in models)
    assert torch.equal(one, other)
    assert balancers[0].weights == balancers[1].weights


@pytest.mark.parametrize("kind", [eq.AutoBalance, eq.MTAdam, eq.MultiAdam])
def test_copy_of_a_trained_optimizer_keeps_its_group_and_goes_on_alike(kind, group) -> None:
    model = MultiHead(3)
    optimizer = kind(model.parameters(), process_group=group)
    optimizer.backward(dict(zip("abc", model(data(0)), strict=True)))
    optimizer.step()
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    for net, stepped in ((model, optimizer), (twin, twin_optimizer)):
        assert stepped._processes.group is group
        stepped.backward(dict(zip("abc", net(data(1)), strict=True)))
        stepped.step()
    assert all(map(torch.equal, model.parameters(), twin.parameters()))
