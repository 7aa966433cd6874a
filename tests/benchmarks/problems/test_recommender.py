from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problems.recommender import area_under_curve, draw_visits, recommender


def test_only_what_was_clicked_is_bought():
    _, _, found = draw_visits(torch.Generator().manual_seed(0))
    clicked, bought = found[:, 0] > 0, found[:, 1] > 0
    assert not (bought & ~clicked).any()
    assert 0.3 < clicked.float().mean() < 0.7
    assert 0.05 < bought.float().mean() < 0.25


def test_a_batch_without_clicks_has_neither_purchases_nor_ratings():
    trial = start_trial(recommender(), 0)
    users, items, wanted = trial.data
    quiet = wanted[:, 0] == 0
    assert set(trial.compute_losses(users[quiet], items[quiet], wanted[quiet])) == {
        "click",
        "length",
    }


def test_a_fifth_of_the_users_rates():
    trial = start_trial(recommender(), 0)
    users, items, wanted = trial.data
    others = users % 5 != 0
    assert "rating" not in trial.compute_losses(users[others], items[others], wanted[others])
    assert set(trial.compute_losses(users, items, wanted)) == set(recommender().losses)


@pytest.mark.parametrize("seed", range(3))
def test_the_area_under_the_curve_is_that_of_scikit_learn(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(200, generator=generator)
    labels = (torch.rand(200, generator=generator) < 0.3).float()
    assert area_under_curve(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
