from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problems.toy_regression import toy_regression, toy_regression_ten


@pytest.mark.parametrize(("build", "tasks"), [(toy_regression, 2), (toy_regression_ten, 10)])
def test_the_metric_starts_at_the_number_of_tasks(build, tasks):
    trial = start_trial(build(), 0)
    assert trial.evaluate() == pytest.approx(tasks)
    assert len(build().losses) == tasks


def test_targets_are_scaled_hyperbolic_tangents_of_a_common_and_an_own_matrix():
    inputs, targets = start_trial(toy_regression(), 4).data
    assert inputs.shape[1:] == (250,)
    assert targets.shape[1:] == (2, 100)
    # The matrix of a task explains its targets: linear in the inputs, before the tangent.
    first = torch.atanh(targets[:, 0].double().clamp(-1 + 1e-9, 1 - 1e-9))
    second = torch.atanh((targets[:, 1].double() / 100).clamp(-1 + 1e-9, 1 - 1e-9))
    agreement = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]
    assert 0.5 < agreement < 0.95  # N(0, 10) in common, N(0, 3.5) of their own


def test_scales_go_from_1_to_100():
    for build in (toy_regression, toy_regression_ten):
        _, targets = start_trial(build(), 0).data
        largest = targets.abs().amax(dim=(0, 2))
        assert largest[0] == pytest.approx(1.0, rel=1e-3)
        assert largest[-1] == pytest.approx(100.0, rel=1e-3)
        assert (largest.diff() > 0).all()


def test_right_weights_make_the_initial_losses_alike():
    trial = start_trial(toy_regression_ten(), 1)
    losses = trial.compute_losses(*trial.data)
    weighted = torch.stack([trial.right_weights[name] * loss for name, loss in losses.items()])
    assert weighted.max() / weighted.min() < 1.1


def test_the_trunk_has_four_layers_of_100_units():
    model = start_trial(toy_regression(), 0).model
    shapes = [tuple(p.shape) for p in model.trunk.parameters() if p.ndim == 2]
    assert shapes == [(100, 250), (100, 100), (100, 100), (100, 100)]


def test_validation_data_are_not_test_data() -> None:
    trial = start_trial(toy_regression(), 0)
    with torch.no_grad():
        for parameter in trial.model.parameters():
            parameter.mul_(0.5)
    assert trial.validate() == pytest.approx(trial.evaluate(), rel=0.1)
    assert trial.validate() != trial.evaluate()
