from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problems.conflict import OPPOSED, conflict, draw_tasks


def test_the_tasks_are_opposed_on_the_stated_share_of_the_data():
    _, y = draw_tasks(torch.Generator().manual_seed(0))
    torch.testing.assert_close(y[:, 1].abs(), 3 * y[:, 0].abs())
    assert float((y[:, 0] * y[:, 1] < 0).float().mean()) == pytest.approx(OPPOSED, abs=0.01)


def test_gradients_conflict_on_opposed_data_and_agree_on_the_others():
    trial = start_trial(conflict(), 0)
    x, y = trial.data
    shared = list(trial.model.trunk.parameters())
    for opposed in (True, False):
        chosen = (y[:, 0] * y[:, 1] < 0) == opposed
        one, two = (
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)])
            for loss in trial.compute_losses(x[chosen], y[chosen]).values()
        )
        assert (torch.nn.functional.cosine_similarity(one, two, dim=0) < 0) == opposed


def test_the_metric_is_the_mean_share_of_the_variance_that_is_explained():
    trial = start_trial(conflict(), 0)
    with torch.no_grad():
        trial.model.gains.zero_()
        found = trial.evaluate()
    _, y = draw_tasks(torch.Generator().manual_seed(0))
    test = y[-500:]
    expected = 1 - (test.square().mean(dim=0) / test.var(dim=0))
    assert found["mean share explained"] == pytest.approx(float(expected.mean()), abs=1e-5)
