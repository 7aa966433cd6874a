from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.measuring import measuring
from equipoise.benchmarks.problems.vae import BOUND, RMSE, divergence, vae


def test_divergence_is_that_of_normal_distributions():
    mean, log_variance = torch.randn(4, 3), torch.randn(4, 3)
    found = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(found, prior).sum(dim=1).mean()
    torch.testing.assert_close(divergence(mean, log_variance), expected)


def test_the_metric_is_the_sum_of_the_losses_with_the_right_weights():
    trial = start_trial(vae(), 0)
    with measuring(trial.model):
        found = trial.evaluate()
        assert trial.evaluate() == found  # the same latents are drawn each time
    per_mean_square = trial.right_weights["reconstruction"]
    assert per_mean_square == pytest.approx(64 / (2 * 0.15**2))
    assert 0 < found[BOUND] - per_mean_square * found[RMSE] ** 2 < 1
