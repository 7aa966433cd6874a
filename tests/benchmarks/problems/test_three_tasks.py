from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problems.three_tasks import (
    SPLIT,
    RotatedDigits,
    measure,
    rotated_digits,
    three_tasks,
)


class Oracle(torch.nn.Module):
    """Knows the classes, and errs by a known amount elsewhere."""

    def __init__(self, digits, wrong):
        super().__init__()
        self.digits, self.wrong = digits, wrong

    def forward(self, _noisy):
        labels = self.digits.labels.clone()
        labels[: self.wrong] = (labels[: self.wrong] + 1) % 10
        logits = torch.nn.functional.one_hot(labels, 10).float()
        return logits, self.digits.angles - 2.5, self.digits.clean + 0.25


def test_metrics_are_the_error_rate_degrees_and_root_of_the_mean_square():
    digits = rotated_digits(0)[2]
    found = measure(Oracle(digits, wrong=36), digits)
    assert found["class error (%)"] == pytest.approx(10.0)
    assert found["angle error (degrees)"] == pytest.approx(2.5, rel=1e-5)
    assert found["image RMSE"] == pytest.approx(0.25, rel=1e-5)


def test_images_are_rotated_digits_with_noise():
    parts = rotated_digits(3)
    assert tuple(len(part.labels) for part in parts) == SPLIT
    training: RotatedDigits = parts[0]
    assert 40 < training.angles.abs().max() <= 45
    assert (training.noisy - training.clean).std() == pytest.approx(0.15, rel=0.02)
    assert 0 <= training.clean.min() < training.clean.max() <= 1.001


def test_scales_of_the_untrained_losses_differ_by_their_units():
    trial = start_trial(three_tasks(), 0)
    losses = {name: loss.item() for name, loss in trial.compute_losses(*trial.data).items()}
    assert losses["class"] == pytest.approx(2.3, abs=0.1)
    assert losses["angle"] == pytest.approx(45**2 / 3, rel=0.1)
    assert losses["image"] < 0.3


def test_an_index_is_zero_for_a_model_that_does_not_look():
    trial = start_trial(three_tasks(), 0)
    with torch.no_grad():
        for parameter in trial.model.parameters():
            parameter.zero_()
        found = trial.kpis()
    assert all(0 <= value < 0.1 for value in found.values())
