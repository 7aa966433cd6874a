"""Models in `fully_shard` with real process groups: parts of a batch, shards of every parameter."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable
from functools import partial

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.amp import GradScaler
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import equipoise as eq
from tests.forks import START_METHOD
from tests.methods import NAMES, make
from tests.models import MultiHead
from tests.parallel.ranks import together
from tests.releases import shards_on_a_cpu

pytestmark = shards_on_a_cpu

STEPS = 6
NEED_WHOLE = (
    "dbmtl", "dbpinn", "excessmtl", "graddrop", "inversedirichlet", "learningrateannealing",
    "metabalance", "moco", "modo", "momentumconfig", "sdmgrad",
)  # fmt: skip


class Pairwise(nn.Module):
    """Each of three losses reaches the first layer and two of three others."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.others = nn.ModuleList(nn.Linear(5, 3) for _ in range(3))
        self.double()

    def forward(self, x: Tensor) -> list[Tensor]:
        a, b, c = (layer(self.first(x).tanh()) for layer in self.others)
        return [(a * b).square().mean(), (b - c).square().mean(), (c * a + 1).square().mean()]


def data(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randn(12, 4, dtype=torch.float64, generator=generator)


def layers(model: nn.Module) -> None:
    for layer in (module for module in model.modules() if isinstance(module, nn.Linear)):
        fully_shard(layer)
    fully_shard(model)


def trunk(model: MultiHead) -> None:
    fully_shard(model.trunk[0])
    fully_shard(model.trunk[2])
    fully_shard(model)


def replicated(model: MultiHead, shape: tuple[int, int]) -> None:
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("replicas", "shards"))
    fully_shard(model.trunk, mesh=mesh)
    fully_shard(model, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def parameters(model: nn.Module) -> Tensor:
    """All of them, in one order whatever is sharded just now."""
    return torch.cat([whole(p).detach().flatten() for p in model.state_dict().values()])


def gradients(model: nn.Module) -> Tensor:
    """All of them; sharded parameters come before whole ones in a model that is not at rest."""
    for module in model.modules():
        if hasattr(module, "reshard"):
            module.reshard()
    return torch.cat([whole(p.grad).flatten() for p in model.parameters()])


def step_plainly(balancer, losses, _model, optimizer) -> None:
    optimizer.zero_grad()
    balancer.backward(losses)
    optimizer.step()


def step_with_the_balanced_loss(balancer, losses, _model, optimizer) -> None:
    optimizer.zero_grad()
    balancer(losses).backward()
    optimizer.step()


def step_with_a_scaler(balancer, losses, _model, optimizer) -> None:
    scaler = GradScaler("cpu", init_scale=2.0**10)
    optimizer.zero_grad()
    balancer.backward(losses, scaler=scaler)
    scaler.step(optimizer)
    scaler.update()


def step_in_two_micro_batches(balancer, losses, _model, optimizer) -> None:
    optimizer.zero_grad()
    with balancer.frozen():
        balancer.backward(losses, retain_graph=True)
    balancer.backward(losses)
    optimizer.step()


def step_watching(named: Callable[[nn.Module], object], balancer, losses, model, optimizer) -> None:
    optimizer.zero_grad()
    balancer.backward(losses, wrt=named(model))
    optimizer.step()


def step_without_a_loss_at_times(balancer, losses, _model, optimizer) -> None:
    if balancer._calls % 3 == 1:
        del losses["b"]
    step_plainly(balancer, losses, _model, optimizer)


Step = Callable[..., None]
Case = tuple[str, dict[str, object], Step, type[nn.Module], Callable[[nn.Module], None]]


def case(
    method: str,
    step: Step = step_plainly,
    model: type[nn.Module] = MultiHead,
    shard: Callable[[nn.Module], None] = trunk,
    **options: object,
) -> Case:
    return method, options, step, model, shard


# All weightings go one way, so a few stand for them where time counts.
WEIGHTINGS = [name for name in NAMES if isinstance(make(name), eq.Weighting)]
FEW = [name for name in WEIGHTINGS if name in ("dwa", "equal", "famo", "randomweights")]
METHODS = [name for name in NAMES if name not in (*NEED_WHOLE, *WEIGHTINGS)]
CASES: dict[str, Case] = {name: case(name) for name in (*METHODS, *FEW)} | {
    "every layer by itself": case("upgrad", shard=layers),
    "the model as one": case("upgrad", shard=fully_shard),
    "losses that share in pairs": case("upgrad", model=Pairwise, shard=layers),
    "norms of losses that share in pairs": case(
        "inversegradientnorm", model=Pairwise, shard=layers
    ),
    "at the representation": case("mgda", wrt="representation"),
    "at the representation, heads by themselves": case("mgda", shard=layers, wrt="representation"),
    "a combination at the representation": case("trimmedmean", wrt="representation"),
    "a combination at the representation, heads by themselves": case(
        "trimmedmean", shard=layers, wrt="representation"
    ),
    "at the last shared layer": case("upgrad", wrt="last_shared"),
    "a combination at the last shared layer": case("trimmedmean", wrt="last_shared"),
    "a combination in two rows": case("trimmedmean", measuring=eq.Measuring(rows=2)),
    "at a module": case("upgrad", partial(step_watching, lambda model: model.trunk)),
    "at the whole model": case("cagrad", partial(step_watching, lambda model: model)),
    "at a parameter": case(
        "gradnorm", partial(step_watching, lambda model: model.trunk[2].weight)
    ),
    "with plain heads": case("upgrad", heads="plain"),
    "in two rows": case("mgda", measuring=eq.Measuring(rows=2)),
    "in batched passes": case("mgda", measuring=eq.Measuring(chunk=3)),
    "every third step": case("cagrad", every=3),
    "with priorities": case("pcgrad", priorities={"b": 3.0}),
    "as a balanced loss": case("nashmtl", step_with_the_balanced_loss),
    "norms as a balanced loss": case("gradnorm", step_with_the_balanced_loss),
    "with a loss scale": case("upgrad", step_with_a_scaler),
    "norms with a loss scale": case("gradnorm", step_with_a_scaler),
    "accumulated": case("mgda", step_in_two_micro_batches),
    "in parts": case("mgda"),
    "in parts with state": case("gradvac", shard=layers),
    "in parts with a loss scale": case("inversegradientnorm", step_with_a_scaler),
    "in parts, accumulated": case("upgrad", step_in_two_micro_batches),
    "without a loss at times": case("cagrad", step_without_a_loss_at_times),
}  # fmt: skip


def train(name: str, rank: int, world: int, *, shard: Callable[[nn.Module], None] | None = None):
    """Ten steps on this process's part of each batch."""
    method, options, step, kind, sharded = CASES.get(name) or case(name)
    torch.manual_seed(0)
    model = kind()
    if world > 1:
        (shard or sharded)(model)
    torch.manual_seed(rank)  # balancers must not depend on each process's own random numbers
    balancer = make(method, **options)
    if name.startswith("in parts"):
        parts = {"first": model.trunk[0], "second": model.trunk[2]}
        balancer = eq.PerModule(balancer, parts)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for index in range(STEPS):
        losses = dict(zip("abc", model(data(index).chunk(world)[rank]), strict=True))
        step(balancer, losses, model, optimizer)
    return parameters(model), torch.tensor(list(balancer.weights.values()))


def battery(rank: int, world: int, names: Iterable[str]) -> dict[str, tuple[Tensor, Tensor]]:
    return {name: train(name, rank, world) for name in names}


def refusals(rank: int, world: int) -> dict[str, str]:
    """What is said to whoever asks for what cannot be."""
    model = sharded_model()
    x = data(0).chunk(world)[rank]
    early = {name: make(name, wrt=[nn.Parameter(torch.ones(1))]) for name in NEED_WHOLE}
    losses = dict(zip("abc", model(x), strict=True))
    said = {f"{name} at construction": refusal(make, name) for name in NEED_WHOLE}
    for name, balancer in early.items():
        said[f"{name} at a step"] = refusal(balancer.backward, losses, wrt="shared")
    some = {k: v for k, v in losses.items() if rank == 0 or k != "b"}
    said["absent from a weighting"] = refusal(make("equal").backward, some)
    said["absent from a measurement"] = refusal(make("mgda").backward, some)
    combination = make("trimmedmean", wrt="representation")
    said["callable"] = refusal(combination.backward, losses, backward=Tensor.backward)
    tied = nn.Parameter(torch.ones((), dtype=torch.float64))
    around = {k: v * tied for k, v in losses.items()}
    said["partly sharded"] = refusal(make("mgda").backward, around)
    model.set_requires_gradient_sync(False)
    unsynchronised = dict(zip("abc", model(x), strict=True))
    said["unreduced"] = refusal(make("mgda").backward, unsynchronised)
    return said


def sharded_model() -> MultiHead:
    torch.manual_seed(0)
    model = MultiHead(3)
    layers(model)
    return model


def refusal(call: Callable[..., object], *arguments: object, **options: object) -> str:
    with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
        call(*arguments, **options)
    return str(caught.value)


def measurements(rank: int, world: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = MultiHead(3)
    if world > 1:
        trunk(model)
    losses = model(data(0).chunk(world)[rank])
    torch.stack(losses).sum().backward(retain_graph=True)
    before = gradients(model)
    found = eq.measure(losses)
    return {"gram": found.gram(), "norms": found.norms(), "left": gradients(model) - before}


def copies(rank: int, world: int) -> list[Tensor]:
    """Weights of a step by a balancer, its copy and its pickle."""
    model = sharded_model()
    balancer = make("mgda")
    balancer.backward(model(data(0).chunk(world)[rank]))
    found = []
    for same in (balancer, copy.deepcopy(balancer), pickle.loads(pickle.dumps(balancer))):  # noqa: S301 (our own)
        same.backward(model(data(1).chunk(world)[rank]))
        found.append(torch.tensor(list(same.weights.values())))
    return found


RESUMED = ("gradnorm", "pcgrad", "uncertainty", "relobralo")


def trained(name: str, rank: int, world: int, checkpoints: str, *, resumes: bool) -> Tensor:
    """Ten steps with a checkpoint after five, or the last five from there."""
    torch.manual_seed(0)
    model = MultiHead(3)
    if distributed.is_initialized():
        trunk(model)
    balancer = make(name)
    if resumes:
        balancer.double()  # distributed checkpoints keep the precision of what they are read into
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    half = STEPS // 2
    if resumes:
        load(model, optimizer, balancer, f"{checkpoints}/{name}")
    for index in range(half if resumes else 0, STEPS):
        if index == half and not resumes and distributed.is_initialized():
            checkpoint.save(
                state(model, optimizer, balancer), checkpoint_id=f"{checkpoints}/{name}"
            )
        part = data(index).chunk(world)[rank]
        step_plainly(balancer, dict(zip("abc", model(part), strict=True)), model, optimizer)
    return parameters(model)


def state(model: nn.Module, optimizer: torch.optim.Optimizer, balancer: eq.Balancer) -> dict:
    return {
        "model": model.state_dict(),
        "optimizer": get_optimizer_state_dict(model, optimizer),
        "balancer": balancer.state_dict(),
    }


def load(model: nn.Module, optimizer: torch.optim.Optimizer, balancer: eq.Balancer, where: str):
    saved = state(model, optimizer, balancer)
    checkpoint.load(saved, checkpoint_id=where)
    model.load_state_dict(saved["model"])
    set_optimizer_state_dict(model, optimizer, saved["optimizer"])
    balancer.load_state_dict(saved["balancer"])


def resumption(rank: int, world: int, checkpoints: str, resumes: bool) -> dict[str, Tensor]:
    return {name: trained(name, rank, world, checkpoints, resumes=resumes) for name in RESUMED}


def everything(rank: int, world: int, checkpoints: str) -> dict[str, object]:
    return {
        "battery": battery(rank, world, CASES),
        "refusals": refusals(rank, world),
        "measurements": measurements(rank, world),
        "copies": copies(rank, world),
        "saved": resumption(rank, world, checkpoints, False),
    }


def hybrid(rank: int, world: int, shape: tuple[int, int]) -> dict[str, tuple[Tensor, Tensor]]:
    shard = partial(replicated, shape=shape)
    names = ("upgrad", "gradnorm", "trimmedmean", "at the representation")
    return {name: train(name, rank, world, shard=shard) for name in names}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((2, "spawn"), id="2 ranks"),
        pytest.param((3, START_METHOD), id="3 ranks", marks=pytest.mark.slow),
    ],
)
def ranks(request, tmp_path_factory) -> list[dict]:
    world, start_method = request.param
    folder = tmp_path_factory.mktemp("ranks")
    checkpoints = str(folder / "checkpoints")
    found = together(everything, world, folder, checkpoints, start_method=start_method)
    return [{**one, "checkpoints": str(folder / "checkpoints")} for one in found]


@pytest.mark.parametrize("name", CASES)
def test_processes_with_shards_equal_one_with_the_whole_batch(name, ranks) -> None:
    alone, weights = train(name, 0, 1)
    for found in ranks:
        torch.testing.assert_close(found["battery"][name][0], alone, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found["battery"][name][1], weights, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_weights_are_bit_identical_on_all_processes(name, ranks) -> None:
    for other in ranks[1:]:
        assert torch.equal(ranks[0]["battery"][name][1], other["battery"][name][1])


@pytest.mark.slow
def test_every_weighting_equals_one_process(tmp_path) -> None:
    for found in together(battery, 2, tmp_path / "2", WEIGHTINGS):
        for name, (parameters_, weights) in found.items():
            alone = train(name, 0, 1)
            torch.testing.assert_close((parameters_, weights), alone, rtol=1e-6, atol=1e-6)


def test_replicas_of_shards_count_once(tmp_path) -> None:
    for found in together(hybrid, 2, tmp_path / "2", (2, 1)):
        for name, (trained_, _) in found.items():
            torch.testing.assert_close(trained_, train(name, 0, 1)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_shards_on_a_mesh_of_two_dimensions_equal_one_process(tmp_path) -> None:
    for found in together(hybrid, 4, tmp_path / "4", (2, 2)):
        for name, (trained_, _) in found.items():
            torch.testing.assert_close(trained_, train(name, 0, 1)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("when", ["at construction", "at a step"])
@pytest.mark.parametrize("name", NEED_WHOLE)
def test_a_method_that_needs_whole_gradients_says_so_and_names_others(name, when, ranks) -> None:
    for found in ranks:
        said = found["refusals"][f"{name} {when}"].lower()
        assert said.startswith(f"{name} needs whole gradients")
        assert "gradnorm" in said
        assert "upgrad" in said
        assert not any(other in said for other in NEED_WHOLE if other != name)


@pytest.mark.parametrize(
    ("case", "word"),
    [
        ("absent from a weighting", "0 * prediction.sum()"),
        ("absent from a measurement", "0 * prediction.sum()"),
        ("callable", "`backward`"),
        ("partly sharded", "fully_shard(model)"),
        ("unreduced", "balancer.frozen()"),
    ],
)
def test_what_cannot_be_measured_is_refused_on_every_process(case, word, ranks) -> None:
    for found in ranks:
        assert word in found["refusals"][case]


def test_measured_gradients_are_those_of_one_process_and_leave_grad_alone(ranks) -> None:
    alone = measurements(0, 1)
    for found in ranks:
        torch.testing.assert_close(found["measurements"]["gram"], alone["gram"])
        torch.testing.assert_close(found["measurements"]["norms"], alone["norms"])
        assert not found["measurements"]["left"].any()


def test_copies_and_pickles_of_a_balancer_go_on_as_it_does(ranks) -> None:
    for found in ranks:
        own, copied, pickled = found["copies"]
        assert torch.equal(own, copied)
        assert torch.equal(own, pickled)


@pytest.mark.parametrize("world", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_training_resumes_on_another_number_of_processes(world, ranks, tmp_path) -> None:
    resumed = together(resumption, world, tmp_path / "resumed", ranks[0]["checkpoints"], True)
    for name in RESUMED:
        alone = trained(name, 0, 1, "", resumes=False)
        for found in (ranks[0]["saved"], *resumed):
            torch.testing.assert_close(found[name], alone, rtol=1e-6, atol=1e-6)
