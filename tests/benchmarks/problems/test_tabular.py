from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problems.tabular import TARGETS, coefficients, tabular


def test_coefficients_are_one_for_the_truth_and_zero_for_its_mean():
    targets = torch.randn(50, 7) * torch.logspace(-2, 2, 7)
    assert coefficients(targets, targets)["mean R2"] == 1
    means = targets.mean(dim=0).expand_as(targets)
    assert coefficients(means, targets)["mean R2"] == pytest.approx(0, abs=1e-6)
    half = targets.clone()
    half[:, 0] = targets[:, 0].mean()
    found = coefficients(half, targets)
    assert found["R2 of cholesterol"] == pytest.approx(0, abs=1e-6)
    assert found["mean R2"] == pytest.approx(6 / 7)


def test_right_weights_standardise_the_columns():
    trial = start_trial(tabular(), 0)
    losses = trial.compute_losses(*trial.data)
    weighted = [trial.right_weights[name] * float(losses[name].detach()) for name in TARGETS]
    assert max(weighted) / min(weighted) < 2  # the model begins near the means
    assert max(losses.values()) > 1e4 * min(losses.values())
