from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problems.image_pairs import draw_pairs, image_pairs


def test_pairs_are_outlines_around_surfaces():
    torch.manual_seed(0)
    outlines, surfaces = draw_pairs(64)
    assert outlines.shape == surfaces.shape == (64, 1, 16, 16)
    for pictures in (outlines, surfaces):
        assert (pictures.min() >= 0) & (pictures.max() <= 1)
    lit = surfaces > 0
    assert 0.2 < lit.float().mean() < 0.7
    assert outlines[lit].mean() > outlines[~lit].mean() > 0


def test_metrics_are_the_mean_absolute_error_and_the_lack_of_contrast():
    trial = start_trial(image_pairs(), 0)
    with torch.no_grad():
        for parameter in trial.model.parameters():
            parameter.zero_()
        found = trial.evaluate()
    assert found["contrast error (%)"] == pytest.approx(100)
    torch.manual_seed(0)
    assert found["absolute error"] == pytest.approx(float(draw_pairs(256)[1].mean()))
