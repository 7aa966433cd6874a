from __future__ import annotations

import dataclasses

import pytest
import torch

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.stream import batches, steps_per_epoch
from equipoise.benchmarks.compare.training import start_trial, train
from equipoise.benchmarks.methods import Method, methods_for
from tests.benchmarks.compare.conftest import OPTIONS
from tests.benchmarks.small import problem

METHODS = methods_for(problem().start(0))


def quiet(step: int, metric: float) -> None:
    """Nobody watches."""


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_the_same_seed_gives_the_same_run_whatever_ran_before(method):
    one = train(problem(), method, OPTIONS, 3, quiet)
    torch.manual_seed(123)
    torch.rand(7)
    two = train(problem(), method, OPTIONS, 3, quiet)
    assert dataclasses.replace(one, seconds=0.0) == dataclasses.replace(two, seconds=0.0)
    assert train(problem(), method, OPTIONS, 4, quiet).metric != one.metric


def test_all_methods_start_from_the_same_model_and_see_the_same_first_batch():
    first = {
        method.label: train(problem(), method, OPTIONS, 0, quiet).trajectory.losses
        for method in METHODS
    }
    assert len({(losses["near"][0], losses["far"][0]) for losses in first.values()}) == 1


def test_batches_hold_every_sample_once_an_epoch_and_leave_out_the_rest():
    trial = start_trial(problem(), 0)
    seen = list(batches(trial, TrainingOptions(epochs=2, batch_size=7, lr=0.1), seed=0))
    assert [len(batch[0]) for batch in seen] == [7] * 6
    epoch = torch.cat([batch[0] for batch in seen[:3]])
    assert len(epoch.unique(dim=0)) == 21


def test_a_batch_larger_than_the_data_is_the_data():
    trial = start_trial(problem(), 0)
    options = TrainingOptions(epochs=1, batch_size=1000, lr=0.1)
    assert steps_per_epoch(trial, options) == 1
    ((batch,),) = batches(trial, options, seed=0)
    assert len(batch) == 24


def test_a_run_records_start_and_end_of_the_metric_and_every_loss_and_weight():
    watched = []
    run = train(problem(), Method("equal"), OPTIONS, 0, lambda *step: watched.append(step))
    assert [step for step, _ in watched] == [1, 2, 3, 4, 5, 6]
    assert run.metric_steps == [0, 1, 2, 3, 4, 5, 6]
    assert run.metric == run.metric_curve[-1] < run.metric_curve[0]
    assert run.trajectory.steps == [1, 2, 3, 4, 5, 6]
    assert run.trajectory.weights == {"near": [1.0] * 6, "far": [1.0] * 6}


def test_long_runs_are_recorded_at_few_points():
    run = train(problem(), Method("equal"), TrainingOptions(100, 8, 1e-3), 0, quiet)
    assert len(run.trajectory.steps) == 60
    assert len(run.metric_steps) == 21
    assert run.trajectory.steps[-1] == run.metric_steps[-1] == 300


@pytest.mark.parametrize("name", ["equal", "mtadam"])
def test_an_absent_loss_and_a_value_that_is_not_finite_are_recorded_as_none(name):
    def start(seed):
        trial = problem().start(seed)

        def compute_losses(x):
            losses = trial.compute_losses(x)
            return {"far": losses["far"] * float("inf")}

        return dataclasses.replace(trial, compute_losses=compute_losses)

    broken = dataclasses.replace(problem(), start=start)
    run = train(broken, Method(name), OPTIONS, 0, quiet)
    assert run.trajectory.losses == {"near": [None] * 6, "far": [None] * 6}
    assert run.trajectory.weights["near"] == [None] * 6
    # The plain sum is ruined as PyTorch's would be; MTAdam skips the step.
    assert (run.metric is None) == (name == "equal")
