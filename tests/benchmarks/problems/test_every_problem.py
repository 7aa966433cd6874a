from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.training import start_trial, train
from equipoise.benchmarks.measuring import measuring
from equipoise.benchmarks.methods import Method, parse_methods
from equipoise.benchmarks.problems import PROBLEMS, find_problem, pinn

NAMES = [name for name in PROBLEMS if not name.startswith("toy_regression")]
"""Those others are measured in their own file, at the size that they have."""


@pytest.fixture(autouse=True)
def short_end(monkeypatch):
    monkeypatch.setattr(pinn, "FINAL_ITERATIONS", 2)


def short_run(name, method="equal", seed=0):
    found = find_problem(name)
    options = TrainingOptions(None, found.batch_size, found.lr, steps=3)
    return train(found, Method(method), options, seed, lambda *_: None)


@pytest.mark.parametrize("name", NAMES)
def test_a_short_run_works_and_is_the_same_for_the_same_seed(name):
    one, two = (short_run(name) for _ in range(2))
    assert one.failure is None
    assert dataclasses.replace(one, seconds=0.0) == dataclasses.replace(two, seconds=0.0)
    assert {loss for loss, curve in one.trajectory.losses.items() if any(curve)} <= set(
        find_problem(name).losses
    )
    assert short_run(name, seed=1).trajectory.losses != one.trajectory.losses


@pytest.mark.parametrize("name", sorted({*NAMES} - {"rosenbrock", "beale"}))
def test_validation_data_are_not_test_data(name):
    """A function to be minimised is itself what counts."""
    trial = start_trial(find_problem(name), 0)
    with measuring(trial.model):
        tested, validated = trial.evaluate(), trial.validate()
        assert trial.evaluate() == tested
    assert tested != validated
    if isinstance(tested, dict):
        assert set(tested) == set(validated)
        assert all(math.isfinite(value) for value in (*tested.values(), *validated.values()))


def samples_seen(trial, function):
    """The samples that the model is given while a function runs."""
    widths = {tensor.shape[1:] for tensor in trial.data}
    rows = set()

    def note(_, args):
        for given in args:
            if isinstance(given, torch.Tensor) and given.shape[1:] in widths:
                rows.update(row.numpy().tobytes() for row in given.detach())

    hooks = [module.register_forward_pre_hook(note) for module in trial.model.modules()]
    function()
    for hook in hooks:
        hook.remove()
    return rows


@pytest.mark.parametrize(
    "name",
    [
        "digits",
        "three_tasks",
        "tabular",
        "sparse_autoencoder",
        "vae",
        "conflict",
        "negatives",
        "photographs",
    ],
)
def test_what_is_trained_on_chosen_by_and_tested_with_are_different_samples(name):
    """A probe is fitted to training data, so that measuring may look at these again."""
    trial = start_trial(find_problem(name), 0)
    trained = samples_seen(trial, lambda: trial.compute_losses(*trial.data))
    with measuring(trial.model):
        tested = samples_seen(trial, trial.evaluate) - trained
        validated = samples_seen(trial, trial.validate) - trained
        indexed = samples_seen(trial, trial.kpis) if trial.kpis else set()
    assert len(tested) > 50
    assert len(validated) > 50
    assert not tested & validated
    assert indexed <= trained


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_methods_of_a_problem_exist_and_right_weights_have_its_losses(name):
    found = find_problem(name)
    methods = parse_methods(",".join(found.balancers))
    assert methods[0].label == "equal"
    assert {label for label in found.labels if label not in found.balancers} == set()
    right = start_trial(found, 0).right_weights
    assert (right is not None) == (Method("right") in methods)
    assert right is None or set(right) == set(found.losses)


@pytest.mark.parametrize("name", ["three_tasks", "burgers", "super_resolution", "conflict"])
def test_a_problem_can_be_learned(name):
    found = find_problem(name)
    options = TrainingOptions(None, found.batch_size, found.lr, steps=40)
    method = Method("firstvalue" if name == "three_tasks" else "right")
    run = train(found, method, options, 0, lambda *_: None)
    better = run.metric > run.metric_curve[0]
    assert better == found.higher_is_better


def test_random_methods_are_given_the_points_of_all_others():
    seen = [short_run("wave", method).trajectory.losses for method in ("equal", "randomweights")]
    assert [losses["initial"][0] for losses in seen] == [seen[0]["initial"][0]] * 2
    torch.testing.assert_close(seen[0]["residual"][0], seen[1]["residual"][0])
