from __future__ import annotations

import pytest
import torch

from equipoise.optim import AutoBalance, MTAdam, MultiAdam
from tests.optim.training import TwoHeads, assert_equal_models, batches

# What the compiler itself warns of while it compiles is not ours.
pytestmark = pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")
KINDS = pytest.mark.parametrize("kind", [MTAdam, AutoBalance, MultiAdam])


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()


def train_with_a_late_loss(model, forward, kind):
    optimizer = kind(model.parameters(), lr=0.01, losses=["left", "right"])
    for step, x in enumerate(batches(7, torch.float32)):
        losses = forward(x)
        if step < 3:
            del losses["right"]
        optimizer.backward(losses)
        optimizer.step()


@KINDS
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_loss_that_starts_late_trains_as_in_the_eager_model(kind, backend):
    eager, compiled = TwoHeads(torch.float32), TwoHeads(torch.float32)
    train_with_a_late_loss(eager, eager, kind)
    compiled.trunk.compile(backend=backend)
    train_with_a_late_loss(compiled, compiled, kind)
    assert_equal_models(eager, compiled, rtol=1e-5, atol=1e-5)


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
