"""Optimizers of models in `fully_shard`: real processes, each with a part of every parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import distributed, nn
from torch.amp import GradScaler
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from equipoise.optim import AutoBalance, MTAdam, MultiAdam
from equipoise.optim.sharded import NormPool
from tests.forks import START_METHOD
from tests.models import MultiHead
from tests.parallel.ranks import together
from tests.releases import shards_on_a_cpu

pytestmark = shards_on_a_cpu

NAMES = ("a", "b", "c")
STEPS = 10


def layers(model: MultiHead) -> None:
    for layer in (module for module in model.modules() if isinstance(module, nn.Linear)):
        fully_shard(layer)
    fully_shard(model)


def trunk_alone(model: MultiHead) -> None:
    """The heads stay whole."""
    fully_shard(model.trunk)


def replicated(model: MultiHead) -> None:
    shape = (2, distributed.get_world_size() // 2)
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("replicas", "shards"))
    fully_shard(model, mesh=mesh)


@dataclass(frozen=True)
class Plan:
    """A training run; ``absent`` are (step, loss) pairs that no process has.

    ``beside``: the heads are moved by hand, with what the optimizer leaves in their ``.grad``.
    """

    options: Mapping[str, object] = field(default_factory=dict)
    optimizer: type[Optimizer] = MTAdam
    shard: Callable[[MultiHead], object] = layers
    micro_batches: int = 1
    scaled: bool = False
    clip: float | None = None
    absent: frozenset[tuple[int, str]] = frozenset()
    spoiled: frozenset[tuple[int, str]] = frozenset()
    beside: bool = False


SOMETIMES = frozenset({(0, "b"), (3, "a"), (3, "c"), (7, "b")})
PLANS = {
    "by tensor": Plan(),
    "by layer": Plan({"granularity": "layer", "weight_decay": 0.1, "amsgrad": True}),
    "by group": Plan({"granularity": "group", "ranks": {"b": 3.0}}),
    "by all": Plan({"granularity": "all"}),
    "the model as one": Plan(shard=fully_shard),
    "heads whole": Plan({"granularity": "all"}, shard=trunk_alone),
    "heads whole, accumulated": Plan(shard=trunk_alone, micro_batches=2, absent=SOMETIMES),
    "heads beside": Plan(beside=True, absent=SOMETIMES),
    "heads beside and whole": Plan(beside=True, shard=trunk_alone, micro_batches=2),
    "on the device": Plan({"on_device": True}, absent=SOMETIMES),
    "absent": Plan(absent=SOMETIMES),
    "spoiled": Plan(spoiled=SOMETIMES),
    "accumulated": Plan(micro_batches=2),
    "clipped": Plan(clip=0.1),
    "scaled": Plan(scaled=True, absent=SOMETIMES),
    "spoiled, scaled": Plan(scaled=True, spoiled=SOMETIMES),
    "MultiAdam": Plan({"weight_decay": 0.1}, optimizer=MultiAdam, absent=SOMETIMES),
    "AutoBalance": Plan(optimizer=AutoBalance, absent=SOMETIMES, spoiled=frozenset({(5, "a")})),
    "AutoBalance, accumulated": Plan(optimizer=AutoBalance, micro_batches=2),
    "AutoBalance, scaled": Plan(optimizer=AutoBalance, scaled=True, spoiled=SOMETIMES),
}
RESUMED = {"MTAdam": Plan({"amsgrad": True}), "AutoBalance": Plan(optimizer=AutoBalance)}
REPLICATED = Plan({"granularity": "all"}, shard=replicated)


def build(plan, world):
    torch.manual_seed(0)
    model = MultiHead(len(NAMES))
    if world > 1:
        plan.shard(model)
    groups = [
        {"params": list(model.trunk.named_parameters("trunk"))},
        {"params": list(model.heads.named_parameters("heads")), "lr": 0.02},
    ]
    if plan.beside:
        del groups[1]
    return model, plan.optimizer(groups, lr=0.01, losses=NAMES, **plan.options)


def run(plan, rank, world):
    model, optimizer = build(plan, world)
    advance(plan, model, optimizer, range(STEPS), rank, world)
    return found(model, optimizer)


def advance(plan, model, optimizer, steps, rank, world):
    scaler = GradScaler("cpu", init_scale=2.0**10) if plan.scaled else None
    for step in steps:
        optimizer.zero_grad()
        generator = torch.Generator().manual_seed(step)
        batch = torch.randn(12, 4, dtype=torch.float64, generator=generator)
        parts = batch.chunk(world)[rank].chunk(plan.micro_batches)
        for part in parts[:-1]:
            with optimizer.accumulate():
                optimizer.backward(losses(plan, step, model, part), scaler=scaler)
        optimizer.backward(losses(plan, step, model, parts[-1]), scaler=scaler)
        if plan.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        if plan.beside:
            move_by_hand(model.heads)


@torch.no_grad()
def move_by_hand(module):
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.sub_(parameter.grad, alpha=0.1)
            parameter.grad = None


def losses(plan, step, model, x):
    found = dict(zip(NAMES, model(x), strict=True))
    for name in NAMES:
        if (step, name) in plan.spoiled:
            found[name] = found[name] * float("nan")
        if (step, name) in plan.absent:
            del found[name]
    return {name: loss / plan.micro_batches for name, loss in found.items()}


def found(model, optimizer):
    """The parameters and all state, whole, by name."""
    for module in model.modules():
        if hasattr(module, "reshard"):
            module.reshard()
    values = {"skipped": torch.tensor(optimizer.skipped)}
    for name, parameter in model.named_parameters():
        values[name] = whole(parameter)
        for kind, value in optimizer.state[parameter].items():
            values[f"{name} {kind}"] = whole(value)
    return values


def whole(tensor):
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()


def saved(plan, rank, world, folder):
    """Ten steps, with a checkpoint after five."""
    model, optimizer = build(plan, world)
    advance(plan, model, optimizer, range(STEPS // 2), rank, world)
    checkpoint.save(state(model, optimizer), checkpoint_id=folder)
    advance(plan, model, optimizer, range(STEPS // 2, STEPS), rank, world)
    return found(model, optimizer)


def resumed(rank, world, folder):
    return {name: resume(plan, rank, world, f"{folder}/{name}") for name, plan in RESUMED.items()}


def resume(plan, rank, world, folder):
    """The last five steps, from that checkpoint on."""
    model, optimizer = build(plan, world)
    loaded = state(model, optimizer)
    checkpoint.load(loaded, checkpoint_id=folder)
    model.load_state_dict(loaded["model"])
    set_optimizer_state_dict(model, optimizer, loaded["optimizer"])
    advance(plan, model, optimizer, range(STEPS // 2, STEPS), rank, world)
    return found(model, optimizer)


def state(model, optimizer):
    return {"model": model.state_dict(), "optimizer": get_optimizer_state_dict(model, optimizer)}


def everything(rank, world, folder):
    results = {name: run(plan, rank, world) for name, plan in PLANS.items()}
    results["refusals"] = refusals(rank)
    results["pooled"] = pooled(rank)
    for name, plan in RESUMED.items():
        results[f"saved {name}"] = saved(plan, rank, world, f"{folder}/{name}")
    if world == 2:
        results["replicated"] = run(REPLICATED, rank, world)
    return results


def refusals(rank):
    """What is said to whoever asks for what cannot be."""
    model, optimizer = build(Plan(), 2)
    given = dict(zip(NAMES, model(torch.ones(2, 4, dtype=torch.float64)), strict=True))
    some = {name: loss for name, loss in given.items() if rank == 0 or name != "b"}
    with pytest.raises(ValueError, match=r"0 \* prediction.sum\(\)") as absent:
        optimizer.backward(some)
    model.set_requires_gradient_sync(False)
    with pytest.raises(RuntimeError, match=r"optimizer.accumulate\(\)") as unreduced:
        optimizer.backward(given)
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    weight = nn.Parameter(distribute_tensor(torch.ones(4), mesh))
    with pytest.raises(ValueError, match="tensor parallelism") as cut:
        MTAdam([weight]).backward({"a": weight.sum().full_tensor()})
    return [str(absent.value), str(unreduced.value), str(cut.value)]


def pooled(rank):
    """Norms that a square in float32 would lose or overflow, and one not finite on one process."""
    model, _ = build(Plan(shard=trunk_alone), 2)
    parameters = [model.trunk[0].weight, model.heads[0].weight, model.trunk[2].weight]
    spoiled = float("nan") if rank == 1 else 1.0
    return NormPool(parameters).whole(torch.tensor([3e30, 5e-30, spoiled]))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((2, "spawn"), id="2 ranks"),
        pytest.param((3, START_METHOD), id="3 ranks", marks=pytest.mark.slow),
    ],
)
def ranks(request, tmp_path_factory):
    world, start_method = request.param
    folder = tmp_path_factory.mktemp("ranks")
    checkpoints = str(folder / "checkpoints")
    trained = together(everything, world, folder, checkpoints, start_method=start_method)
    return folder / "checkpoints", trained


def assert_close(some, others):
    assert some.keys() == others.keys()
    for name, value in some.items():
        torch.testing.assert_close(
            value, others[name], rtol=1e-6, atol=1e-9, equal_nan=True, msg=lambda m, n=name: n + m
        )


@pytest.mark.parametrize("name", PLANS)
def test_shards_equal_one_process_with_whole_parameters_and_the_whole_batch(name, ranks):
    assert_close(ranks[1][0][name], run(PLANS[name], 0, 1))


@pytest.mark.parametrize("name", PLANS)
def test_parameters_and_state_are_bit_identical_on_all_processes(name, ranks):
    first, *others = (trained[name] for trained in ranks[1])
    for other in others:
        assert all(torch.equal(value, other[kind]) for kind, value in first.items())


def test_replicas_of_shards_count_once(ranks):
    for trained in ranks[1]:
        if "replicated" in trained:
            assert_close(trained["replicated"], run(REPLICATED, 0, 1))


def test_norms_of_parts_are_pooled_and_those_of_wholes_are_not(ranks):
    for trained in ranks[1]:
        expected = torch.tensor([len(ranks[1]) ** 0.5 * 3e30, 5e-30, float("nan")])
        torch.testing.assert_close(trained["pooled"], expected, equal_nan=True)


def test_every_process_refuses_what_cannot_be(ranks):
    for trained in ranks[1]:
        assert trained["refusals"] == ranks[1][0]["refusals"]


@pytest.mark.parametrize("count", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_training_resumes_from_a_distributed_checkpoint(count, ranks, tmp_path):
    folder, trained = ranks
    for process in together(resumed, count, tmp_path / "resumed", str(folder)):
        for name in RESUMED:
            assert_close(process[name], trained[0][f"saved {name}"])


@pytest.mark.parametrize("kind", [MTAdam, AutoBalance])
def test_a_new_optimizer_makes_room_for_a_checkpoint_and_does_not_move(kind):
    model = MultiHead(len(NAMES))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    room = get_optimizer_state_dict(model, kind(model.parameters(), losses=NAMES))
    assert room["state"].keys() == dict(model.named_parameters()).keys()
    assert all(not state["step"].any() for state in room["state"].values())
    assert all(map(torch.equal, before, model.parameters()))


def test_a_new_optimizer_without_losses_says_how_a_checkpoint_can_be_loaded():
    model = MultiHead(len(NAMES))
    with pytest.raises(RuntimeError, match="build it with `losses=`"):
        get_optimizer_state_dict(model, MTAdam(model.parameters()))


@pytest.mark.slow
def test_shards_on_a_mesh_of_two_dimensions_equal_one_process(tmp_path):
    for trained in together(run_replicated, 4, tmp_path / "ranks"):
        assert_close(trained, run(REPLICATED, 0, 1))


def run_replicated(rank, world):
    return run(REPLICATED, rank, world)
