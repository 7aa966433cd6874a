"""Every flag of `DistributedDataParallel`, against one process with the whole batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    allreduce_hook,
    fp16_compress_hook,
)
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel

import equipoise as eq
from tests.methods import make
from tests.models import MultiHead
from tests.parallel.ranks import together

STEPS, PARTS = 3, 2

METHODS: dict[str, Callable[[int], eq.Balancer]] = {
    "losses": lambda every: make("relobralo", every=every),
    "norms": lambda every: make("gradnorm", every=every),
    "gramian": lambda every: make("upgrad", every=every),
    "gradients": lambda every: make("excessmtl", every=every),
    "representation": lambda every: make("imtlg", every=every),
    "plain heads": lambda every: make("cagrad", every=every, heads="plain"),
    "streamed": lambda every: make("mgda", every=every, measuring=eq.Measuring(rows=2)),
    "combination": lambda _: make("dbmtl"),
    "draws": lambda _: make("graddrop"),
    "combination at the representation": lambda _: make("trimmedmean", wrt="representation"),
    "primary": lambda every: eq.Primary(make("mgda", every=every), "a"),
    "shares": lambda every: eq.Shares(make("equal", every=every), [3.0, 1.0, 1.0]),
    "shares of a combination": lambda _: eq.Shares(make("config"), [3.0, 1.0, 1.0]),
    "behind": lambda every: eq.Behind(make("nashmtl", every=every)),
}


def wrapped(**flags: object) -> Callable[[nn.Module], nn.Module]:
    return lambda model: DistributedDataParallel(model, **flags)


def hooked(model: nn.Module) -> nn.Module:
    """In a wrapper whose communication hook counts what it is called for."""
    net = DistributedDataParallel(model)
    net.hook_calls = 0

    def counting(_, bucket):  # DDP takes no annotations that are strings
        net.hook_calls += 1
        return allreduce_hook(distributed.group.WORLD, bucket)

    net.register_comm_hook(None, counting)
    return net


def rounding(model: nn.Module) -> nn.Module:
    net = DistributedDataParallel(model)
    net.register_comm_hook(None, fp16_compress_hook)
    return net


class TrunkOnly(nn.Module):
    """Only the trunk is in a wrapper."""

    def __init__(self, model: MultiHead) -> None:
        super().__init__()
        self.trunk, self.heads = DistributedDataParallel(model.trunk), model.heads

    forward = MultiHead.forward


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda model: model,
    "wrapped": wrapped(),
    "static graph": wrapped(static_graph=True),
    "unused parameters": wrapped(find_unused_parameters=True),
    "bucket views": wrapped(gradient_as_bucket_view=True),
    "static graph, unused parameters, bucket views": wrapped(
        static_graph=True, find_unused_parameters=True, gradient_as_bucket_view=True
    ),
    "communication hook": hooked,
    "trunk only": TrunkOnly,
}


def whole_batch(_net: nn.Module, _balancer: eq.Balancer, _last: bool) -> ExitStack:
    return ExitStack()


@contextmanager
def frozen(_net: nn.Module, balancer: eq.Balancer, last: bool) -> Iterator[None]:
    """The accumulation of docs/training.md."""
    with nullcontext() if last else balancer.frozen():
        yield


def begins(net: DistributedDataParallel) -> bool:
    """Whether it is in the first iteration of a static graph, which `no_sync` would break."""
    return net.static_graph and not net._static_graph_delay_allreduce_enqueued


@contextmanager
def unsynchronised(net: nn.Module, _balancer: eq.Balancer, last: bool) -> Iterator[None]:
    """PyTorch's recipe: all micro-batches but the last send nothing; here each of them learns."""
    sends = last or not isinstance(net, DistributedDataParallel) or begins(net)
    with nullcontext() if sends else net.no_sync():
        yield


@contextmanager
def both(net: nn.Module, balancer: eq.Balancer, last: bool) -> Iterator[None]:
    with frozen(net, balancer, last), unsynchronised(net, balancer, last):
        yield


ACCUMULATIONS = {
    "whole batch": (1, whole_batch),
    "frozen": (PARTS, frozen),
    "no_sync": (PARTS, unsynchronised),
    "no_sync, frozen": (PARTS, both),
}
HOW = (
    (1, "whole batch"), (1, "frozen"), (1, "no_sync"), (2, "whole batch"), (2, "no_sync, frozen"),
)  # fmt: skip
CASES = [
    f"{method}; every={every}; {accumulation}"
    for method, (every, accumulation) in itertools.product(METHODS, HOW)
]


def data(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randn(12, 4, dtype=torch.float64, generator=generator)


def train(case: str, rank: int, world: int, wrapper: str = "plain") -> dict[str, Tensor]:
    """Some steps on this process's part of each micro-batch."""
    method, every, accumulation = case.split("; ")
    parts, around = ACCUMULATIONS[accumulation]
    torch.manual_seed(0)
    model = MultiHead(3)
    torch.manual_seed(rank)  # balancers must not depend on each process's own random numbers
    balancer = METHODS[method](int(every.removeprefix("every=")))
    net = (WRAPPERS | {"rounding": rounding})[wrapper](model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(STEPS):
        optimizer.zero_grad()
        for number, part in enumerate(data(step).chunk(parts), 1):
            with around(net, balancer, number == parts):
                losses = [loss / parts for loss in net(part.chunk(world)[rank])]
                balancer.backward(dict(zip("abc", losses, strict=True)))
        optimizer.step()
    return {
        "parameters": torch.cat([p.detach().flatten() for p in model.parameters()]),
        "weights": torch.tensor(list(balancer.weights.values())),
        "hook calls": torch.tensor(getattr(net, "hook_calls", 1)),
    }


def battery(rank: int, world: int, wrapper: str, cases: list[str]) -> dict[str, dict]:
    return {case: train(case, rank, world, wrapper) for case in cases}


@pytest.fixture(scope="module")
def alone() -> dict[str, dict]:
    return {case: train(case, 0, 1) for case in CASES}


def rounded(rank: int, world: int) -> dict[str, dict]:
    return battery(rank, world, "rounding", [case for case in SOME if "1; whole" in case])


def test_a_hook_that_rounds_leaves_replicas_alike(tmp_path, alone) -> None:
    one, other = together(rounded, 2, tmp_path / "2")
    for case, found in one.items():
        assert torch.equal(found["parameters"], other[case]["parameters"]), case
        torch.testing.assert_close(
            found["parameters"], alone[case]["parameters"], rtol=0.05, atol=0.05
        )


def joining(rank: int, world: int) -> dict[str, object]:
    """Trains under `Join` with as many batches everywhere, and where it would wait for some."""
    said: dict[str, object] = {}
    for method, made in METHODS.items():
        torch.manual_seed(0)
        net = DistributedDataParallel(MultiHead(3))
        balancer = made(1)
        with Join([net], throw_on_early_termination=True):
            for step in range(STEPS):
                part = data(step).chunk(world)[rank]
                balancer.backward(dict(zip("abc", net(part), strict=True)))
        said[method] = torch.cat([p.grad.flatten() for p in net.parameters()])
    net = DistributedDataParallel(MultiHead(3))
    with pytest.raises(RuntimeError) as caught, Join([net], enable=True):
        make("mgda").backward(dict(zip("abc", net(data(0)), strict=True)))
    said["refusal"] = str(caught.value)
    return said


def test_join_is_refused_unless_it_ends_with_the_first(tmp_path) -> None:
    one, other = together(joining, 2, tmp_path / "2")
    for method in METHODS:
        assert torch.equal(one[method], other[method]), method
    assert "throw_on_early_termination=True" in one["refusal"]


def beginning(_rank: int, _world: int) -> str:
    net = DistributedDataParallel(MultiHead(3), static_graph=True)
    with pytest.raises(RuntimeError) as caught, net.no_sync():
        make("mgda").backward(dict(zip("abc", net(data(0)), strict=True)))
    return str(caught.value)


def test_a_static_graph_that_begins_unsynchronised_is_refused(tmp_path) -> None:
    assert all("no_sync()" in said for said in together(beginning, 2, tmp_path / "2"))


# Every third case has each method and each way to accumulate, not each with each other.
SOME = CASES[::3]
THREE = ("static graph", "unused parameters", "plain")


@pytest.fixture(
    scope="module",
    params=[
        *[pytest.param((2, w, SOME), id=f"2 ranks, {w}") for w in WRAPPERS],
        pytest.param((2, "wrapped", CASES), id="2 ranks, wrapped, all", marks=pytest.mark.slow),
        *[pytest.param((3, w, SOME), id=f"3 ranks, {w}", marks=pytest.mark.slow) for w in THREE],
    ],
)
def ranks(request, tmp_path_factory) -> list[dict]:
    world, wrapper, cases = request.param
    return together(battery, world, tmp_path_factory.mktemp("ranks"), wrapper, cases)


def test_processes_equal_one_with_the_whole_batch_and_each_other(ranks, alone) -> None:
    """One test for each wrapper: over methods, `every` and ways to accumulate."""
    first, *others = ranks
    for case, found in first.items():
        for what in ("parameters", "weights"):
            torch.testing.assert_close(
                found[what],
                alone[case][what],
                rtol=1e-6,
                atol=1e-6,
                msg=lambda said, case=case: f"{case}: {said}",
            )
            assert all(torch.equal(found[what], other[case][what]) for other in others), case
        assert found["hook calls"] > 0, case
