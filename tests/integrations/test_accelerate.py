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
    multi_term_loop,
    plain_loop,
    sgd,
)
from tests.methods import NAMES

pytest.importorskip("accelerate")

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from equipoise.integrations.accelerate import AccumulatedBackward, MultiTermBackward


@pytest.fixture(autouse=True)
def _no_state_of_an_earlier_accelerator():
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def train(balancer, data, accelerator, *, dtype=torch.float64, backward=None):
    model = ThreeLosses(dtype=dtype)
    prepared, optimizer = accelerator.prepare(model, sgd(model))
    backward = backward or AccumulatedBackward(balancer, accelerator)
    for x in data:
        with accelerator.accumulate(prepared):
            backward(prepared(x))
            optimizer.step()
            optimizer.zero_grad()
    return model


@pytest.mark.parametrize("name", NAMES)
def test_every_method_accumulates_over_two_micro_batches_as_in_the_plain_loop(name) -> None:
    data = batches(6)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    found = train(balancer_of(name), data, accelerator)
    assert difference(plain_loop(balancer_of(name), data, accumulate=2), found) < 1e-10


@pytest.mark.parametrize("name", ["gradnorm", "mgda", "graddrop", "softadapt"])
def test_without_the_rule_every_micro_batch_is_a_step_of_the_method(name) -> None:
    data, balancer = batches(4), balancer_of(name)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)

    def backward(losses):
        balancer.backward(losses, backward=accelerator.backward)

    found = train(balancer, data, accelerator, backward=backward)
    model, other = ThreeLosses(), balancer_of(name)
    optimizer = sgd(model)
    for i, x in enumerate(data):
        other.backward(model(x), backward=lambda loss: (loss / 2).backward())
        if i % 2:
            optimizer.step()
            optimizer.zero_grad()
    assert difference(model, found) < 1e-12


@pytest.mark.parametrize("name", ["gradnorm", "mgda", "graddrop", "softadapt"])
def test_bf16_equals_the_plain_loop_under_autocast(name) -> None:
    data = batches(4, dtype=torch.float32)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=2)
    found = train(balancer_of(name), data, accelerator, dtype=torch.float32)
    lowered = {"dtype": torch.float32, "autocast": torch.bfloat16}
    assert difference(plain_loop(balancer_of(name), data, accumulate=2, **lowered), found) < 1e-6


def test_save_state_and_load_state_hold_the_balancer(tmp_path) -> None:
    accelerator = Accelerator(cpu=True)
    balancer, resumed = eq.GradNorm(LOSSES), eq.GradNorm(LOSSES)
    accelerator.register_for_checkpointing(balancer)
    train(balancer, batches(3), accelerator)
    accelerator.save_state(tmp_path)
    other = Accelerator(cpu=True)
    other.register_for_checkpointing(resumed)
    other.load_state(tmp_path)
    for name, value in balancer.named_buffers():
        assert torch.equal(resumed.get_buffer(name), value)


def test_mtadam_runs_inside_the_prepared_optimizer() -> None:
    data = batches(3)
    accelerator = Accelerator(cpu=True)
    model = ThreeLosses()
    prepared, optimizer = accelerator.prepare(model, eq.MTAdam(model.parameters()))
    expected = ThreeLosses()
    plain = eq.MTAdam(expected.parameters())
    for x in data:
        optimizer.optimizer.backward(prepared(x))
        optimizer.step()
        plain.backward(expected(x))
        plain.step()
    assert difference(expected, model) == 0


OPTIMIZERS = pytest.mark.parametrize("kind", [eq.MTAdam, eq.AutoBalance])


@OPTIMIZERS
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_prepared_multi_term_optimizer_trains_as_in_the_plain_loop(kind, accumulate) -> None:
    data = batches(6)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    model = ThreeLosses()
    prepared, optimizer = accelerator.prepare(model, kind(model.parameters()))
    backward = MultiTermBackward(optimizer, accelerator)
    for x in data:
        with accelerator.accumulate(prepared):
            backward(prepared(x))
            optimizer.step()
            optimizer.zero_grad()
    assert difference(multi_term_loop(kind, data, accumulate=accumulate), model) < 1e-12
    assert backward.optimizer.report()["loss/a"] > 0
    assert set(backward.optimizer.weights) == set(LOSSES)


def test_saving_and_loading_hold_a_prepared_multi_term_optimizer(tmp_path) -> None:
    data, models = batches(6), []
    for begin in (0, 3):
        accelerator = Accelerator(cpu=True)
        model = ThreeLosses(seed=begin)
        optimizer = eq.MTAdam(model.parameters(), losses=LOSSES)
        prepared, optimizer = accelerator.prepare(model, optimizer)
        if begin:
            accelerator.load_state(tmp_path)
        backward = MultiTermBackward(optimizer, accelerator)
        for x in data[begin : begin + 3]:
            backward(prepared(x))
            optimizer.step()
            optimizer.zero_grad()
        accelerator.save_state(tmp_path)
        models.append(model)
    assert difference(multi_term_loop(eq.MTAdam, data), models[1]) == 0


def test_an_optimizer_for_one_loss_is_refused() -> None:
    accelerator = Accelerator(cpu=True)
    optimizer = accelerator.prepare(sgd(ThreeLosses()))
    with pytest.raises(
        TypeError, match="SGD takes one gradient, not one per loss; train with MTAdam"
    ):
        MultiTermBackward(optimizer, accelerator)
