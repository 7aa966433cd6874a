"""Preferences in data-parallel, compiled and scaled training."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

import equipoise as eq
from equipoise.schedules import Ramp, Stages
from equipoise.wrappers import PerModule, Primary, Shares
from equipoise.wrappers.behind import Behind
from tests.methods import LOSSES, make
from tests.models import MultiHead, batch, compile_trunk, flat_grad
from tests.parallel import ranks

SHARES = {"a": 0.6, "b": 0.3, "c": 0.1}
RAMPS = {"b": Ramp(0.1, 2.0, steps=5), "c": Stages({0: 0.1, 2: 1.0})}
START = {"c": Stages({0: 0.0, 2: 1.0})}
CASES: dict[str, Callable[[], eq.Balancer]] = {
    "primary, equal": lambda: Primary(make("equal"), "a"),
    "primary, gradnorm": lambda: Primary(make("gradnorm"), "a"),
    "primary, upgrad": lambda: Primary(make("upgrad"), "a"),
    "primary, uncertainty every third step": lambda: Primary(make("uncertainty", every=3), "a"),
    "primary, trimmed mean": lambda: Primary(make("trimmedmean"), "a"),
    "shares, equal": lambda: Shares(make("equal"), SHARES),
    "shares, gradnorm at the representation": lambda: Shares(
        make("gradnorm"), SHARES, wrt="representation"
    ),
    "shares, trimmed mean": lambda: Shares(make("trimmedmean"), SHARES),
    "primary, shares, equal": lambda: Primary(Shares(make("equal"), SHARES), "a"),
    "behind, cagrad": lambda: Behind(make("cagrad")),
    "behind, pcgrad": lambda: Behind(make("pcgrad")),
    "primary, behind, upgrad": lambda: Primary(Behind(make("upgrad")), "a"),
    "ramps, mgda": lambda: make("mgda", priorities=RAMPS),
    "delayed start, dwa": lambda: make("dwa", priorities=START),
    "primary, delayed start, equal": lambda: Primary(make("equal", priorities=START), "a"),
}
PARTS: dict[str, Callable[[MultiHead], eq.Balancer]] = {
    "parts, mgda": lambda model: PerModule(make("mgda"), halves(model)),
    "parts, gradvac": lambda model: PerModule(make("gradvac", priorities=RAMPS), halves(model)),
    "primary, parts, inverse norms": lambda model: Primary(
        PerModule(make("inversegradientnorm"), halves(model)), "a"
    ),
}
every_case = pytest.mark.parametrize("case", [*CASES, *PARTS])
STEPS = 4
TRAINED = sum(p.numel() for p in MultiHead(3).parameters()) + len(LOSSES)


def halves(model: MultiHead) -> dict[str, torch.nn.Module]:
    return {"first": model.trunk[0], "second": model.trunk[2]}


def built(case: str, model: MultiHead) -> eq.Balancer:
    return PARTS[case](model) if case in PARTS else CASES[case]()


def data(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randn(12, 4, dtype=torch.float64, generator=generator)


def opposed(losses: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    first, second, third = losses
    return {"a": first, "b": second - 20 * (first - first.detach()), "c": third}


def train(case: str, rank: int, world: int, *, wrapped: bool, absent: str = "") -> torch.Tensor:
    """The parameters and weights after some steps on this process's part of each batch."""
    torch.manual_seed(0)
    model = MultiHead(3)
    balancer = built(case, model)
    unused = bool(absent) or "start" in case  # a loss that has not started leaves its head unused
    net = DistributedDataParallel(model, find_unused_parameters=unused) if wrapped else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002)
    for step in range(STEPS):
        losses = opposed(net(data(step).chunk(world)[rank]))
        if step == 2 and rank == world - 1:
            losses = {name: loss for name, loss in losses.items() if name not in absent}
        optimizer.zero_grad()
        balancer.backward(losses)
        optimizer.step()
    state = [v.double().flatten() for v in balancer.state_dict().values() if torch.is_tensor(v)]
    parameters = [p.detach().flatten() for p in model.parameters()]
    return torch.cat([*parameters, torch.tensor(list(balancer.weights.values())), *state])


def battery(rank: int, world: int, wrapped: bool) -> dict[tuple[str, str], torch.Tensor]:
    return {
        (case, absent): train(case, rank, world, wrapped=wrapped, absent=absent)
        for case in (*CASES, *PARTS)
        for absent in ("", "a")
        if not (absent and "start" in case)
    }


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(True, id="wrapped"),
        pytest.param(False, id="plain", marks=pytest.mark.slow),
    ],
)
def together(request, tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    return ranks.together(battery, 2, folder, request.param, start_method="spawn")


@every_case
def test_two_processes_on_half_batches_equal_one_on_the_whole(case, together) -> None:
    alone = train(case, 0, 1, wrapped=False)
    for found in together:
        torch.testing.assert_close(found[case, ""][:TRAINED], alone[:TRAINED], rtol=1e-6, atol=1e-6)


@every_case
def test_processes_are_bit_identical_to_each_other(case, together) -> None:
    one, other = ({key: found[key] for key in found if key[0] == case} for found in together)
    assert all(torch.equal(one[key].nan_to_num(7e7), other[key].nan_to_num(7e7)) for key in one)


@every_case
def test_a_loss_scale_reaches_the_gradient_alone(case) -> None:
    model = MultiHead(3, dtype=torch.float32)
    plain = built(case, model)
    other = copy.deepcopy(plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    for _ in range(4):
        x = batch(dtype=torch.float32)
        plain.backward(opposed(model(x)))
        expected = flat_grad(list(model.parameters()))
        model.zero_grad()
        other.backward(opposed(model(x)), scaler=scaler)
        found = flat_grad(list(model.parameters())) / 2.0**16
        model.zero_grad()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(other.last.weights, plain.last.weights, rtol=1e-4, atol=1e-5)


@every_case
@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:The gradients of several losses are measured:UserWarning")
def test_a_compiled_trunk_trains_as_an_eager_one(case) -> None:
    def trained(model: MultiHead) -> torch.Tensor:
        torch.manual_seed(3)
        balancer = built(case, model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.002)
        for _ in range(4):
            optimizer.zero_grad()
            balancer.backward(opposed(model(batch())))
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch._dynamo.reset()
    eager = MultiHead(3)
    compiled = copy.deepcopy(eager)
    compile_trunk(compiled)
    torch.testing.assert_close(trained(compiled), trained(eager), rtol=1e-5, atol=1e-5)


def test_losses_are_named_as_the_cases_take_them() -> None:
    assert list(opposed(MultiHead(3)(batch()))) == LOSSES
