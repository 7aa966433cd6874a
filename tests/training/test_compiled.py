"""Compiled models and losses, with a loss that starts at step 3, equal eager ones."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import torch
import torch._functorch.config

import equipoise as eq
from equipoise.autograd.graph import SharingError
from equipoise.balancer import Balancer
from tests.methods import NAMES, make, of_kind
from tests.models import MultiHead, batch, compile_trunk, fresh_compiler

# What the compiler itself warns of while it compiles is not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings(
        "ignore:The gradients of several losses are measured through a compiled:UserWarning"
    ),
]


WATCHING = [name for name in NAMES if name not in of_kind(looks_at="losses")]
PLAIN_HEADS = [n for n in WATCHING if make(n).weighting and make(n).heads == "plain"]


def run(model, net, name, seed: int, **options) -> torch.Tensor:
    torch.manual_seed(seed)
    balancer = make(name, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(5):
        losses = dict(zip("abc", net(batch(dtype=torch.float32)), strict=True))
        if step < 3:
            del losses["c"]
        optimizer.zero_grad()
        balancer.backward(losses)
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    with fresh_compiler():
        yield


def layer_of(model: MultiHead, name: str) -> dict[str, object]:
    """What to watch, where a compiled trunk hides it: its last layer, or in which order it lies."""
    if getattr(make(name), "default_wrt", None) == "last_shared":
        return {"wrt": model.trunk[2]}
    return {"wrt": model.trunk} if name == "graddrop" else {}


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_trunk_trains_as_an_eager_one(name) -> None:
    eager = MultiHead(3, dtype=torch.float32)
    compiled = copy.deepcopy(eager)
    expected = run(eager, eager, name, 7, **layer_of(eager, name))
    compile_trunk(compiled)
    found = run(compiled, compiled, name, 7, **layer_of(compiled, name))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_wholly_compiled_model_trains_as_an_eager_one(name) -> None:
    """Told what is shared, and for some methods that heads get weighted gradients."""
    eager = MultiHead(3, dtype=torch.float32)
    compiled = copy.deepcopy(eager)
    heads = {"heads": "weighted"} if name in PLAIN_HEADS else {}

    def options(model) -> dict[str, object]:
        return {"wrt": model.trunk, **heads} if name in WATCHING else {}

    expected = run(eager, eager, name, 7, **options(eager))
    net = torch.compile(compiled, backend="aot_eager")
    found = run(compiled, net, name, 7, **options(compiled))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


ROWS = [4, 4, 7, 4, 3, 5]  # the batches of an epoch and its last, partial one


def varying(model, net, balancer) -> torch.Tensor:
    torch.manual_seed(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step, rows in enumerate(ROWS):
        losses = dict(zip("abc", net(batch(rows, dtype=torch.float32)), strict=True))
        if step == 1:
            del losses["b"]
        optimizer.zero_grad()
        balancer.backward(losses)
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", ["gradnorm", "upgrad", "graddrop", "imtlg", "uncertainty"])
def test_batches_of_varying_size_train_a_wholly_compiled_model_with_the_setting(name) -> None:
    eager = MultiHead(3, dtype=torch.float32)
    compiled = copy.deepcopy(eager)

    def balancer(model) -> object:
        heads = {"heads": "weighted"} if name == "imtlg" else {}
        torch.manual_seed(0)
        return make(name, **({"wrt": model.trunk, **heads} if name in WATCHING else {}))

    expected = varying(eager, eager, balancer(eager))
    with torch._functorch.config.patch(donated_buffer=False):
        net = torch.compile(compiled, backend="aot_eager")
        found = varying(compiled, net, balancer(compiled))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gradnorm", "upgrad", "graddrop", "imtlg", "uncertainty"])
def test_batches_of_varying_size_train_a_compiled_trunk_with_the_setting(name) -> None:
    eager = MultiHead(3, dtype=torch.float32)
    compiled = copy.deepcopy(eager)

    def balancer(model) -> object:
        torch.manual_seed(0)
        return make(name, **layer_of(model, name))

    expected = varying(eager, eager, balancer(eager))
    with torch._functorch.config.patch(donated_buffer=False):
        compile_trunk(compiled)
        found = varying(compiled, compiled, balancer(compiled))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_at_the_representation_a_compiled_trunk_needs_no_setting() -> None:
    model = MultiHead(3, dtype=torch.float32)
    compile_trunk(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        varying(model, model, make("mgda", wrt="representation"))


BUILT: dict[str, Callable[[MultiHead], Balancer]] = {
    **{name: lambda model, name=name: make(name, **layer_of(model, name)) for name in NAMES},
    **{
        f"{name} at the representation": lambda _, name=name: make(name, wrt="representation")
        for name in WATCHING
    },
    "behind": lambda model: eq.Behind(make("mgda", wrt=model.trunk)),
    "per module": lambda model: eq.PerModule(make("upgrad"), {"trunk": model.trunk}),
    "primary": lambda _: eq.Primary(make("equal"), "a"),
    "shares": lambda _: eq.Shares(make("equal"), {"a": 0.5, "b": 0.3, "c": 0.2}),
}


@pytest.mark.parametrize("name", BUILT)
def test_whether_batches_of_varying_size_end_a_training_is_said_at_its_first_step(name) -> None:
    model = MultiHead(3, dtype=torch.float32)
    balancer = BUILT[name](model)
    compile_trunk(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        balancer.backward(model(batch(ROWS[0], dtype=torch.float32)))
    warned = any("_functorch.config.donated_buffer = False" in str(w.message) for w in caught)
    ends = pytest.raises(RuntimeError, match=r"gives its buffers away.*donated_buffer = False")
    with ends if warned else nullcontext():
        varying(model, model, balancer)


@pytest.mark.filterwarnings("default:The gradients of several losses are measured:UserWarning")
def test_without_the_setting_a_wholly_compiled_model_is_warned_of_at_its_first_step() -> None:
    model = MultiHead(3, dtype=torch.float32)
    net = torch.compile(model, backend="aot_eager")
    balancer = make("upgrad", wrt=model.trunk)
    with pytest.warns(UserWarning, match=r"_functorch.config.donated_buffer = False"):
        balancer.backward(net(batch(6, dtype=torch.float32)))
    with pytest.raises(RuntimeError, match=r"gives its buffers away.*donated_buffer = False"):
        varying(model, net, balancer)


@pytest.mark.parametrize("name", WATCHING)
def test_where_the_losses_part_inside_a_compiled_model_the_error_says_what_to_change(name) -> None:
    model = MultiHead(3, dtype=torch.float32)
    net = torch.compile(model, backend="aot_eager")
    with pytest.raises(SharingError, match=r"Pass wrt=.*or compile the shared part"):
        make(name, wrt="shared").backward(net(batch(dtype=torch.float32)))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", PLAIN_HEADS)
def test_plain_heads_inside_a_compiled_model_are_refused(name) -> None:
    model = MultiHead(3, dtype=torch.float32)
    net = torch.compile(model, backend="aot_eager")
    with pytest.raises(SharingError, match="Pass heads='weighted'"):
        make(name, wrt=model.trunk, heads="plain").backward(net(batch(dtype=torch.float32)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["equal", "gradnorm", "mgda", "upgrad", "graddrop", "imtlg"])
def test_a_trunk_compiled_by_inductor_trains_as_an_eager_one(name) -> None:
    eager = MultiHead(3, dtype=torch.float32)
    compiled = copy.deepcopy(eager)
    expected = run(eager, eager, name, 7, **layer_of(eager, name))
    compile_trunk(compiled, backend="inductor")
    found = run(compiled, compiled, name, 7, **layer_of(compiled, name))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["uncertainty", "gradnorm", "upgrad"])
def test_a_compiled_loss_function_trains_as_an_eager_one(name) -> None:
    eager = MultiHead(3, dtype=torch.float32)
    compiled = copy.deepcopy(eager)
    shrink = torch.compile(lambda losses: [loss.log1p() for loss in losses], backend="aot_eager")

    def options(model) -> dict[str, object]:
        return {"wrt": model.trunk} if name in WATCHING else {}

    def by_hand(x):
        return [loss.log1p() for loss in eager(x)]

    expected = run(eager, by_hand, name, 7, **options(eager))
    found = run(compiled, lambda x: shrink(compiled(x)), name, 7, **options(compiled))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_balancers_cause_no_recompilation() -> None:
    model = MultiHead(3, dtype=torch.float32)
    compile_trunk(model)
    balancer = make("mgda")
    for _ in range(2):
        balancer.backward(model(batch(dtype=torch.float32)))
    before = dict(torch._dynamo.utils.counters["frames"])
    for _ in range(5):
        balancer.backward(model(batch(dtype=torch.float32)))
    assert dict(torch._dynamo.utils.counters["frames"]) == before
