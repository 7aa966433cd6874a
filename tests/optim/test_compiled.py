from __future__ import annotations

import copy

import pytest
import torch

from equipoise.optim import AutoBalance, MTAdam, MultiAdam
from tests.models import MultiHead, batch, compile_trunk, fresh_compiler
from tests.optim.training import TwoHeads, assert_equal_models, batches

# What the compiler itself warns of while it compiles is not ours.
SETTING = "The gradients of several losses are measured through a compiled"
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning"),
    pytest.mark.filterwarnings(f"ignore:{SETTING}:UserWarning"),
]
SIZES = [4, 4, 7, 4, 3]  # the batches of an epoch and its last, partial one
KINDS = pytest.mark.parametrize("kind", [MTAdam, AutoBalance, MultiAdam])


@pytest.fixture(autouse=True)
def _fresh_compiler():
    with fresh_compiler():
        yield


def train_with_a_late_loss(model, forward, kind):
    optimizer = kind(model.parameters(), lr=0.01, losses=["left", "right"])
    for step, x in enumerate(batches(7, torch.float32)):
        losses = forward(x)
        if step < 3:
            del losses["right"]
        optimizer.backward(losses)
        optimizer.step()


def train(model, kind, inputs, net=None):
    net = model if net is None else net
    optimizer = kind(model.parameters(), lr=0.01)
    for x in inputs:
        optimizer.backward(net(x))
        optimizer.step()


def of_sizes(sizes):
    torch.manual_seed(0)
    return [batch(rows, torch.float32) for rows in sizes]


def two_alike():
    torch.manual_seed(0)
    eager = MultiHead(3, dtype=torch.float32)
    return eager, copy.deepcopy(eager)


@KINDS
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_loss_that_starts_late_trains_as_in_the_eager_model(kind, backend):
    eager, compiled = TwoHeads(torch.float32), TwoHeads(torch.float32)
    train_with_a_late_loss(eager, eager, kind)
    compile_trunk(compiled, backend)
    train_with_a_late_loss(compiled, compiled, kind)
    assert_equal_models(eager, compiled, rtol=1e-5, atol=1e-5)


@KINDS
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_trunk_that_saves_its_activations_trains_as_the_eager_one(kind, backend):
    eager, compiled = two_alike()
    train(eager, kind, of_sizes([6] * 5))
    compile_trunk(compiled, backend)
    train(compiled, kind, of_sizes([6] * 5))
    assert_equal_models(eager, compiled, rtol=1e-5, atol=1e-5)


@KINDS
def test_batches_of_varying_size_train_a_compiled_trunk_with_the_setting(kind):
    eager, compiled = two_alike()
    train(eager, kind, of_sizes(SIZES))
    with torch._functorch.config.patch(donated_buffer=False):
        compile_trunk(compiled)
        train(compiled, kind, of_sizes(SIZES))
    assert_equal_models(eager, compiled, rtol=1e-5, atol=1e-5)


@KINDS
@pytest.mark.filterwarnings(f"default:{SETTING}:UserWarning")
def test_without_the_setting_the_first_step_warns_that_such_batches_end_the_training(kind):
    model, _ = two_alike()
    compile_trunk(model)
    with pytest.warns(UserWarning, match=r"_functorch.config.donated_buffer = False"):
        train(model, kind, of_sizes(SIZES[:1]))
    with pytest.raises(RuntimeError, match=r"gives its buffers away.*donated_buffer = False"):
        train(model, kind, of_sizes(SIZES))


@KINDS
def test_a_wholly_compiled_model_trains_as_the_eager_one(kind):
    eager, inner = TwoHeads(), TwoHeads()
    train(eager, kind, batches(4))
    train(inner, kind, batches(4), net=torch.compile(inner, backend="aot_eager"))
    assert_equal_models(eager, inner, rtol=1e-10, atol=1e-12)


@KINDS
def test_a_wholly_compiled_model_survives_a_loss_that_starts_late(kind):
    model = TwoHeads(torch.float32)
    before = model.right.weight.detach().clone()
    train_with_a_late_loss(model, torch.compile(model, backend="aot_eager"), kind)
    assert all(p.isfinite().all() for p in model.parameters())
    assert not torch.equal(model.right.weight, before)


@KINDS
def test_optimizers_cause_no_recompilation(kind):
    model = TwoHeads()
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = kind(model.parameters())
    seen = []
    for x in batches(6):
        optimizer.backward(compiled(x))
        optimizer.step()
        seen.append(dict(torch._dynamo.utils.counters["frames"]))
    assert seen[1] == seen[-1]
