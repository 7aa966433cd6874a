from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problems.photographs import PARTS, draw_patches, edges_of, photographs
from equipoise.benchmarks.problems.pictures import load_photographs


def test_patches_for_training_validation_and_test_come_from_columns_of_their_own():
    """A patch is found again in the photograph, at one place alone."""
    drawn = draw_patches(torch.Generator().manual_seed(0))
    for (low, high, count), (_, clean) in zip(PARTS, drawn, strict=True):
        assert clean.shape == (count, 1, 12, 12)
        for image, patch in zip(load_photographs(), (clean[0, 0], clean[-1, 0]), strict=True):
            windows = image.unfold(0, 12, 1).unfold(1, 12, 1)
            places = (windows == patch).all(dim=(2, 3)).nonzero()
            width = image.shape[1]
            assert len(places)
            assert all(int(low * width) <= left <= high * width - 12 for _, left in places.tolist())


def test_edges_are_the_length_of_the_step_to_the_next_pixels():
    patch = torch.tensor([[[[0.0, 3.0], [4.0, 0.0]]]])
    torch.testing.assert_close(edges_of(patch), torch.tensor([[[[5.0, 3.0], [4.0, 0.0]]]]))


def test_gradients_differ_by_a_factor_of_a_hundred_thousand():
    trial = start_trial(photographs(), 0)
    losses = trial.compute_losses(*(part[:100] for part in trial.data))
    shared = list(trial.model.trunk.parameters())
    norms = {
        name: float(
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)]
            ).norm()
        )
        for name, loss in losses.items()
    }
    assert norms["patch"] > 1e5 * norms["edges"]
    assert norms["patch"] > 1e4 * norms["brightness"]


def test_the_metrics_are_those_of_the_test_patches():
    trial = start_trial(photographs(), 0)
    with torch.no_grad():
        found = trial.evaluate()
        noisy, clean = draw_patches(torch.Generator().manual_seed(0))[2]
        levels, _, brightness = trial.model(noisy)
    assert found["patch RMSE (grey levels)"] == pytest.approx(
        float((levels - 255 * clean).square().mean().sqrt())
    )
    means = clean.mean(dim=(2, 3))
    assert found["brightness error"] == pytest.approx(float((brightness - means).abs().mean()))
