from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.training import start_trial, train
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.problems.descent import SOLVED, beale, rosenbrock

BUILDERS = {"rosenbrock": rosenbrock, "beale": beale}


def descend_by_hand(trial, lr, steps):
    """The step at which the sum is first below the threshold, by plain arithmetic."""
    at = trial.model.at.detach().clone().requires_grad_()
    for step in range(steps):
        value = sum(trial.model.parts(*at).values())
        if value.item() < SOLVED:
            return step
        (slope,) = torch.autograd.grad(value, at)
        with torch.no_grad():
            at -= lr * slope
    return None


def test_the_metric_is_the_number_of_steps_of_plain_descent():
    lr = 3e-2
    expected = descend_by_hand(start_trial(beale(), 1), lr, 500)
    assert expected is not None
    options = TrainingOptions(None, None, lr, steps=expected + 20)
    assert train(beale(), Method("equal"), options, 1, lambda *_: None).metric == expected
    by_the_last = TrainingOptions(None, None, lr, steps=expected)
    assert train(beale(), Method("equal"), by_the_last, 1, lambda *_: None).metric == expected


def test_a_run_that_does_not_arrive_is_given_more_steps_than_any_that_does():
    options = TrainingOptions(None, None, 1e-6, steps=5)
    run = train(rosenbrock(), Method("equal"), options, 0, lambda *_: None)
    assert run.metric == rosenbrock().steps + 1
    assert run.metrics["function value"][-1] > SOLVED


@pytest.mark.parametrize(
    ("name", "minimum", "corners"),
    [("rosenbrock", (1, 1), [(-2, 2), (-2, 2)]), ("beale", (3, 0.5), [(0, 4), (-1, 1)])],
)
def test_starts_lie_in_the_stated_box_and_the_minimum_is_none(name, minimum, corners):
    starts = torch.stack(
        [start_trial(BUILDERS[name](), seed).model.at.detach() for seed in range(20)]
    )
    for coordinate, (low, high) in zip(starts.T, corners, strict=True):
        assert (low <= coordinate.min()) & (coordinate.max() <= high)
        assert coordinate.max() - coordinate.min() > 0.7 * (high - low)
    trial = start_trial(BUILDERS[name](), 0)
    with torch.no_grad():
        trial.model.at.copy_(torch.tensor(minimum))
    assert sum(trial.compute_losses().values()).item() == 0
