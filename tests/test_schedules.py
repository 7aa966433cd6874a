from __future__ import annotations

import copy
import io
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import equipoise as eq
from equipoise.schedules import Cycle, Ramp, Stages
from tests import methods
from tests.models import MultiHead, batch, flat_grad

LOSSES = methods.LOSSES


def named(model: MultiHead, x: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(zip(LOSSES, model(x), strict=True))


@given(
    start=st.floats(-5, 5), stop=st.floats(-5, 5), steps=st.integers(1, 50), more=st.integers(0, 50)
)
@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_a_ramp_goes_from_its_start_to_its_stop_and_stays(shape, start, stop, steps, more) -> None:
    ramp = Ramp(start, stop, steps, shape)
    assert ramp(0) == start
    assert ramp(steps) == ramp(steps + more) == stop
    on_the_way = [ramp(step) for step in range(steps + 1)]
    ordered = sorted(on_the_way, reverse=stop < start)
    assert on_the_way == pytest.approx(ordered, abs=1e-12)


def test_a_linear_ramp_moves_evenly_and_a_cosine_one_slowly_at_its_ends() -> None:
    assert [Ramp(1.0, 3.0, 4)(step) for step in range(5)] == [1.0, 1.5, 2.0, 2.5, 3.0]
    found = [Ramp(1.0, 3.0, 4, "cosine")(step) for step in range(5)]
    assert found == pytest.approx([2 - math.cos(math.pi * step / 4) for step in range(5)])


@pytest.mark.parametrize(("cycles", "rising"), [(4, 0.5), (3, 0.25), (1, 1.0)])
def test_a_cycle_follows_the_equations_of_the_paper(cycles, rising) -> None:
    total = 24
    cycle = Cycle(total // cycles, rising=rising, cycles=cycles)
    for t in range(1, total + 1):
        tau = ((t - 1) % math.ceil(total / cycles)) / (total / cycles)
        assert cycle(t - 1) == pytest.approx(tau / rising if tau <= rising else 1.0)
    assert cycle(total) == cycle(10 * total) == 1.0


def test_a_cycle_without_an_end_repeats() -> None:
    cycle = Cycle(5, low=0.2, high=0.9, shape="cosine")
    assert [cycle(step) for step in range(5)] == [cycle(step) for step in range(35, 40)]
    assert min(cycle(step) for step in range(5)) == 0.2
    assert max(cycle(step) for step in range(5)) == pytest.approx(0.9)


def test_stages_switch_at_their_steps_and_their_schedules_count_from_there() -> None:
    stages = Stages({0: 0.0, 3: Ramp(1.0, 2.0, steps=2), 6: 0.5})
    assert [stages(step) for step in range(8)] == [0.0, 0.0, 0.0, 1.0, 1.5, 2.0, 0.5, 0.5]


@pytest.mark.parametrize("schedule", [Ramp(0.0, 1.0, 3), Cycle(4), Stages({0: 1.0, 2: 0.1})])
def test_schedules_are_copied_and_pickled(schedule) -> None:
    pickled = pickle.loads(pickle.dumps(schedule))  # noqa: S301 (our own bytes)
    for again in (copy.deepcopy(schedule), pickled):
        assert [again(step) for step in range(9)] == [schedule(step) for step in range(9)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ramp(0.0, 1.0, 0), "`steps` is 0"),
        (lambda: Ramp(0.0, 1.0, 5, "cubic"), "`shape` is 'cubic'"),
        (lambda: Cycle(0), "`period` is 0"),
        (lambda: Cycle(5, cycles=0), "`cycles` is 0"),
        (lambda: Cycle(5, rising=0.0), "`rising` is 0.0"),
        (lambda: Stages({5: 1.0}), "first stage starts at step 0"),
        (lambda: Stages({}), "first stage starts at step 0"),
        (lambda: Stages({-1: 1.0, 0: 2.0}), "first stage starts at step 0"),
    ],
)
def test_schedules_that_cannot_be_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", methods.NAMES)
def test_with_every_method_a_schedule_is_the_priority_of_the_step(name) -> None:
    model = MultiHead(3)
    scheduled = methods.make(name, priorities={"b": Ramp(0.5, 2.0, steps=3)})
    by_hand = copy.deepcopy(scheduled)
    by_hand.schedules = methods.make(name).schedules
    for priority in (0.5, 1.0, 1.5, 2.0, 2.0):
        x = batch()
        scheduled.backward(named(model, x))
        found = flat_grad(list(model.parameters()))
        model.zero_grad()
        by_hand.follow(torch.zeros((), dtype=torch.float64))
        by_hand.priorities.copy_(torch.tensor([1.0, priority, 1.0]))
        by_hand.backward(named(model, x))
        assert torch.equal(found, flat_grad(list(model.parameters())))
        assert scheduled.weights == by_hand.weights
        model.zero_grad()


@pytest.mark.parametrize("name", methods.NAMES)
def test_while_its_priority_is_zero_a_loss_is_absent(name) -> None:
    model = MultiHead(3)
    scheduled = methods.make(name, priorities={"c": Stages({0: 0.0, 2: 1.0})})
    by_hand = copy.deepcopy(scheduled)
    by_hand.schedules = methods.make(name).schedules
    for step in range(4):
        x = batch()
        record = scheduled.backward(named(model, x))
        found = flat_grad(list(model.parameters()))
        model.zero_grad()
        by_hand.follow(torch.zeros((), dtype=torch.float64))
        by_hand.priorities.fill_(1.0)
        given_losses = {**named(model, x), "c": None} if step < 2 else named(model, x)
        by_hand.backward(given_losses)
        assert torch.equal(found, flat_grad(list(model.parameters())))
        model.zero_grad()
        assert record.present == ((0, 1) if step < 2 else (0, 1, 2))


@pytest.mark.parametrize("name", methods.NAMES)
def test_saved_and_resumed_a_schedule_goes_on_bit_for_bit(name) -> None:
    model = MultiHead(3)
    batches = [batch() for _ in range(8)]
    priorities = {"a": lambda step: 1 / (step + 1), "b": Cycle(4), "c": 0.7}
    straight = methods.make(name, priorities=priorities)
    first = copy.deepcopy(straight)
    expected = [straight.backward(named(model, x)).weights for x in batches]
    for x in batches[:4]:
        first.backward(named(model, x))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = methods.make(name, priorities=priorities)
    second.load_state_dict(torch.load(file, weights_only=True))
    for x, weights in zip(batches[4:], expected[4:], strict=True):
        assert torch.equal(second.backward(named(model, x)).weights, weights)


def test_it_moves_on_between_the_steps_that_recompute_the_weights() -> None:
    model = MultiHead(3)
    balancer = eq.GradNorm(3, every=4, priorities=[1.0, Ramp(1.0, 4.0, steps=3), 1.0])
    seen = [balancer.backward(model(batch())).weights for _ in range(4)]
    for step, weights in enumerate(seen):
        torch.testing.assert_close(weights[1], seen[0][1] * (step + 1))


@pytest.mark.parametrize("how", ["frozen", "eval", "nan"])
def test_steps_that_teach_nothing_do_not_count(how) -> None:
    model = MultiHead(2)
    balancer = eq.Equal(2, priorities=[1.0, Ramp(1.0, 3.0, steps=2)])
    balancer.backward(model(batch()))
    balancer.backward(model(batch()))
    assert balancer.weights["1"] == 2.0
    losses = model(batch())
    if how == "frozen":
        with balancer.frozen():
            balancer.backward(losses)
    elif how == "eval":
        balancer.eval().backward(losses)
        balancer.train()
    else:
        balancer.backward([losses[0] * torch.nan, losses[1]])
    if how != "nan":
        assert balancer.weights["1"] == 2.0
    balancer.backward(model(batch()))
    assert balancer.weights["1"] == 3.0


def test_losses_not_begun_yet_may_be_anything() -> None:
    model = MultiHead(2)
    losses = model(batch())
    balancer = eq.Equal(["a", "b"], priorities={"b": Stages({0: 0.0, 100: 1.0})})
    balancer.backward({"a": losses[0], "b": losses[1] * torch.nan})
    assert flat_grad(list(model.parameters())).isfinite().all()
    assert balancer.skipped.sum() == 0


def test_a_step_in_which_no_loss_counts_is_refused_and_named() -> None:
    balancer = eq.Equal(["a", "b"], priorities={"b": Stages({0: 0.0})})
    with pytest.raises(ValueError, match="zero to all losses that are there, 'b'"):
        balancer.backward({"b": MultiHead(1)(batch())[0]})


def test_a_schedule_that_gives_no_number_is_named_with_its_step() -> None:
    balancer = eq.Equal(["a"], priorities=[lambda step: math.nan if step == 1 else 1.0])
    model = MultiHead(1)
    balancer.backward(model(batch()))
    with pytest.raises(ValueError, match="'a' gave nan at step 1"):
        balancer.backward(model(batch()))
    with pytest.raises(ValueError, match=r"`priorities`.*'z'"):
        eq.Equal(["a"], priorities={"z": Ramp(0.0, 1.0, 5)})
    with pytest.raises(ValueError, match="needs 1 numbers"):
        eq.Equal(["a"], priorities=[Ramp(0.0, 1.0, 5), 1.0])
