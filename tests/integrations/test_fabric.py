from __future__ import annotations

import pytest
import torch

import equipoise as eq
from tests.integrations.loops import (
    LOSSES,
    ThreeLosses,
    balancer_of,
    batches,
    difference,
    plain_loop,
    sgd,
)
from tests.methods import NAMES

pytest.importorskip("lightning")

from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision


def train(balancer, data, fabric):
    model = ThreeLosses(dtype=torch.float32)
    wrapped, optimizer = fabric.setup(model, sgd(model))
    for x in data:
        balancer.backward(wrapped(x), backward=fabric.backward)
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("name", NAMES)
def test_every_method_trains_in_bf16_mixed_as_in_the_plain_loop(name) -> None:
    data = batches(3, dtype=torch.float32)
    found = train(balancer_of(name), data, Fabric(accelerator="cpu", precision="bf16-mixed"))
    expected = plain_loop(
        balancer_of(name),
        data,
        dtype=torch.float32,
        autocast=torch.bfloat16,
        backward=torch.Tensor.backward,
    )
    assert difference(expected, found) < 1e-6


@pytest.mark.parametrize("name", ["gradnorm", "pcgrad", "graddrop", "mgda", "softadapt"])
def test_a_loss_scale_in_fp16_is_gone_after_the_step(name) -> None:
    data = batches(3, dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    precision = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    found = train(balancer_of(name), data, Fabric(accelerator="cpu", plugins=[precision]))
    expected = plain_loop(
        balancer_of(name),
        data,
        dtype=torch.float32,
        autocast=torch.float16,
        backward=torch.Tensor.backward,
    )
    assert difference(expected, found) < 1e-3


def test_a_balanced_loss_of_a_gradient_method_goes_through_fabric_backward() -> None:
    data = batches(3, dtype=torch.float32)
    fabric, balancer = Fabric(accelerator="cpu", precision="bf16-mixed"), eq.GradNorm(LOSSES)
    model = ThreeLosses(dtype=torch.float32)
    wrapped, optimizer = fabric.setup(model, sgd(model))
    for x in data:
        fabric.backward(balancer(wrapped(x)))
        optimizer.step()
        optimizer.zero_grad()
    found = train(eq.GradNorm(LOSSES), data, fabric)
    assert difference(found, model) < 1e-6


def test_fabric_still_refuses_a_backward_pass_that_forgets_the_loss_scale() -> None:
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    model = ThreeLosses(dtype=torch.float32)
    wrapped, _ = fabric.setup(model, sgd(model))
    (x,) = batches(1, dtype=torch.float32)
    eq.MGDA(LOSSES).backward(wrapped(x), backward=fabric.backward)
    with pytest.raises(RuntimeError, match="requires you to call `fabric"):
        eq.Equal(LOSSES).backward(wrapped(x))


def test_an_error_while_measuring_leaves_fabric_on_guard() -> None:
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    model = ThreeLosses(dtype=torch.float32)
    wrapped, _ = fabric.setup(model, sgd(model))
    (x,) = batches(1, dtype=torch.float32)
    losses = wrapped(x)
    eq.MGDA(LOSSES).backward(losses, backward=fabric.backward)
    with pytest.raises(RuntimeError, match="second time"):
        eq.MGDA(LOSSES).backward(losses, backward=fabric.backward)
    with pytest.raises(RuntimeError, match="requires you to call `fabric"):
        sum(wrapped(x).values()).backward()


def test_a_saved_state_holds_the_balancer(tmp_path) -> None:
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    balancer = eq.GradNorm(LOSSES)
    train(balancer, batches(3, dtype=torch.float32), fabric)
    fabric.save(tmp_path / "state.ckpt", {"balancer": balancer})
    resumed = eq.GradNorm(LOSSES)
    fabric.load(tmp_path / "state.ckpt", {"balancer": resumed})
    assert torch.equal(resumed.resting, balancer.resting)


def test_mtadam_runs_inside_the_wrapped_optimizer() -> None:
    data = batches(3, dtype=torch.float32)
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    model, expected = ThreeLosses(dtype=torch.float32), ThreeLosses(dtype=torch.float32)
    wrapped, optimizer = fabric.setup(model, eq.MTAdam(model.parameters()))
    plain = eq.MTAdam(expected.parameters())
    for x in data:
        optimizer.optimizer.backward(wrapped(x))
        optimizer.step()
        with torch.autocast("cpu", torch.bfloat16):
            losses = expected(x)
        plain.backward(losses)
        plain.step()
    assert difference(expected, model) < 1e-7
