from __future__ import annotations

import pytest
import torch

import equipoise as eq


def weights_after(balancer, steps, start=0):
    """Trains with weights that are the step's number, and returns them."""
    parameter = torch.ones(2, requires_grad=True)
    for step in range(start, start + steps):
        balancer.priorities[0] = float(step)
        balancer.backward({"a": parameter.sum(), "b": parameter.prod()})
    return balancer


@pytest.mark.parametrize("steps", [1, 4, 40, 128])
@pytest.mark.parametrize("last", [0.25, 0.5, 0.1])
def test_the_mean_of_the_last_part_is_that_of_its_steps(steps, last) -> None:
    balancer = weights_after(eq.Equal(["a", "b"]), steps)
    taken = max(round(last * steps), 1)
    expected = sum(range(steps - taken, steps)) / taken
    found = balancer.mean_weights_over(last)
    assert found == {"a": pytest.approx(expected), "b": 1.0}
    assert eq.Fixed.from_balancer(balancer, last=last).weights == pytest.approx(found)


@pytest.mark.parametrize("steps", [129, 300, 1001])
def test_of_a_long_training_the_mean_is_that_of_its_last_steps_too(steps) -> None:
    balancer = weights_after(eq.Equal(["a", "b"]), steps)
    taken = round(0.25 * steps)
    expected = sum(range(steps - taken, steps)) / taken
    assert balancer.mean_weights_over(0.25)["a"] == pytest.approx(expected, rel=1e-3)


def test_all_of_it_is_the_mean_since_the_start() -> None:
    balancer = weights_after(eq.Equal(["a", "b"]), 7)
    assert balancer.mean_weights_over(1) == balancer.mean_weights == {"a": 3.0, "b": 1.0}


def test_a_resumed_training_has_the_means_of_one_that_went_on() -> None:
    whole = weights_after(eq.Equal(["a", "b"]), 200)
    first, second = weights_after(eq.Equal(["a", "b"]), 150), eq.Equal(["a", "b"])
    with pytest.warns(UserWarning, match="priorities"):
        second.load_state_dict(first.state_dict())
    weights_after(second, 50, start=150)
    assert second.mean_weights_over(0.3) == pytest.approx(whole.mean_weights_over(0.3))


def test_a_step_left_out_at_the_moment_of_thinning_out_thins_out_once() -> None:
    whole, gappy = (eq.Equal(["a", "b"]) for _ in range(2))
    parameter = torch.ones(2, requires_grad=True)
    for balancer in (whole, gappy):
        weights_after(balancer, 129)
    for _ in range(3):
        gappy.backward({"a": parameter.sum() * torch.nan, "b": parameter.prod()})
    assert torch.equal(gappy.weight_marks, whole.weight_marks)


def test_a_loss_that_was_absent_in_the_last_part_has_its_mean_since_the_start() -> None:
    balancer, parameter = eq.Equal(["a", "b"]), torch.ones(2, requires_grad=True)
    balancer.backward({"a": parameter.sum(), "b": 0.5 * parameter.prod()})
    for _ in range(9):
        balancer.backward({"a": parameter.sum()})
    assert balancer.mean_weights_over(0.5) == {"a": 1.0, "b": 1.0}


def test_of_a_checkpoint_with_other_losses_it_is_the_mean_since_the_start() -> None:
    first, second = weights_after(eq.Equal(["a", "b"]), 8), eq.Equal(["c", "b", "a"])
    with pytest.warns(UserWarning, match="other losses|priorities"):
        second.load_state_dict(first.state_dict())
    assert second.mean_weights_over(0.25) == {"c": 1.0, "b": 1.0, "a": pytest.approx(3.5)}


def test_of_a_training_that_has_not_begun_the_weights_are_those_that_would_be() -> None:
    assert eq.Fixed(2, [2.0, 3.0]).mean_weights_over(0.25) == {"0": 2.0, "1": 3.0}


@pytest.mark.parametrize("last", [0, -0.5, 1.5, float("nan")])
def test_what_is_no_part_is_refused(last) -> None:
    with pytest.raises(ValueError, match="`last` is"):
        eq.Equal(2).mean_weights_over(last)
