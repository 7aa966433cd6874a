from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problems.pictures import load_photographs
from equipoise.benchmarks.problems.super_resolution import (
    critic_loss,
    cut_patches,
    shrink,
    super_resolution,
)


def test_patches_of_the_three_parts_come_from_strips_of_their_own():
    patches = cut_patches(0)
    assert {part: tuple(found.shape) for part, found in patches.items()} == {
        "training": (2000, 1, 16, 16),
        "validation": (300, 1, 16, 16),
        "test": (300, 1, 16, 16),
    }
    photographs = torch.stack(load_photographs())
    edges = {"training": (0, 448), "validation": (448, 550), "test": (550, 640)}
    for part, (left, right) in edges.items():
        places = F.unfold(photographs[:, None, :, left:right], 16)
        first = patches[part][0].reshape(1, -1, 1)
        assert (places == first).all(dim=1).any()


def test_the_metric_is_the_peak_signal_to_noise_ratio_of_enlarged_patches():
    trial = start_trial(super_resolution(), 0)
    with torch.no_grad():
        for parameter in trial.model.parameters():
            parameter.zero_()  # no detail is added
        found = trial.evaluate()["PSNR (dB)"]
    test = cut_patches(0)["test"]
    enlarged = F.interpolate(shrink(test), scale_factor=2, mode="bilinear", align_corners=False)
    ratios = [10 * (1 / error).log10() for error in (enlarged - test).square().mean(dim=(1, 2, 3))]
    assert found == pytest.approx(float(torch.stack(ratios).mean()), rel=1e-5)


def test_the_critic_learns_in_a_step_of_its_own():
    trial = start_trial(super_resolution(), 0)
    batch = trial.data[0][:8]
    before = float(trial.compute_losses(batch)["adversarial"].detach())
    updates = []

    def update(losses):
        (graph_ends,) = torch.autograd.grad(
            losses["adversarial"], [next(trial.model.parameters())], retain_graph=True
        )
        losses["adversarial"].backward()
        updates.append(graph_ends.abs().sum())

    trial.step(update, batch)
    after = float(trial.compute_losses(batch)["adversarial"].detach())
    assert len(updates) == 1
    assert updates[0] > 0
    assert after != before  # the generator has not moved


def test_a_critic_that_knows_nothing_pays_one_bit():
    assert float(critic_loss(torch.zeros_like, torch.ones(3), torch.ones(3))) == pytest.approx(
        0.6931, abs=1e-4
    )
