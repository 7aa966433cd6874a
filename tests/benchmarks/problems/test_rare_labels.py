from __future__ import annotations

import pytest

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.stream import batches
from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problems.rare_labels import rare_labels


def test_one_batch_of_ten_knows_the_classes():
    trial = start_trial(rare_labels(), 0)
    stream = batches(trial, TrainingOptions(None, 2, 1e-3, steps=1000), seed=0)
    assert sum(labels is not None for _, labels, _, _ in stream) == pytest.approx(100, abs=30)


def test_a_batch_without_classes_has_no_such_loss():
    trial = start_trial(rare_labels(), 0)
    images, labels, angles, clean = trial.data(8)
    without = set(trial.compute_losses(images, None, angles, clean))
    assert without == {"angle", "image"}
    labels = angles.long().abs() % 10 if labels is None else labels
    assert set(trial.compute_losses(images, labels, angles, clean)) == {*without, "class"}
