"""Data-parallel training with real process groups: every method, in and out of a wrapper."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import equipoise as eq
from tests.forks import START_METHOD
from tests.methods import NAMES, make
from tests.models import MultiHead, flat_grad
from tests.parallel import ranks

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
    case: str,
    rank: int,
    world: int,
    *,
    wrapped: bool,
    absent: bool = False,
    looking: bool = False,
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


def battery(rank: int, world: int, how: dict[str, bool]) -> dict[str, dict]:
    return {case: train(case, rank, world, **how) for case in CASES}


@pytest.fixture(scope="module")
def alone() -> dict[str, dict]:
    return {case: train(case, 0, 1, wrapped=False) for case in CASES}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((2, "spawn", {"wrapped": True}), id="2 wrapped"),
        pytest.param(
            (2, START_METHOD, {"wrapped": True, "looking": True}),
            id="2 wrapped, looking for unused parameters",
        ),
        pytest.param((2, "spawn", {"wrapped": False}), id="2 plain", marks=pytest.mark.slow),
        pytest.param((3, START_METHOD, {"wrapped": True}), id="3 wrapped", marks=pytest.mark.slow),
        pytest.param((3, START_METHOD, {"wrapped": False}), id="3 plain", marks=pytest.mark.slow),
    ],
)
def together(request, tmp_path_factory) -> list[dict]:
    world, start_method, how = request.param
    folder = tmp_path_factory.mktemp("ranks")
    return ranks.together(battery, world, folder, how, start_method=start_method)


@pytest.fixture(
    scope="module", params=[pytest.param(True, id="wrapped"), pytest.param(False, id="plain")]
)
def with_absent(request, tmp_path_factory) -> list[dict]:
    how = {"wrapped": request.param, "absent": True}
    return ranks.together(battery, 2, tmp_path_factory.mktemp("ranks"), how, start_method="spawn")


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


def start_late(rank: int, world: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = MultiHead(3)
    balancer = eq.Equal(["a", "b", "c"])
    found = {}
    for there in ("ab", "ac", "ab", "abc", "c"):
        part = data(len(there)).chunk(world)[rank]
        losses = dict(zip("abc", model(part), strict=True))
        model.zero_grad()
        balancer.backward({name: losses[name] for name in there})
        found[there] = flat_grad(list(model.parameters()))
    return found


def test_heads_of_losses_that_start_late_are_averaged_in_a_plain_model(tmp_path) -> None:
    first, second = ranks.together(start_late, 2, tmp_path / "2")
    for there in ("ab", "ac", "abc", "c"):
        one, other = first[there], second[there]
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
