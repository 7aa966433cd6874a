from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problems.linear_shared import WORST, linear_shared


def set_direction(trial, shares):
    """The best heads for a shared direction that explains these shares of the tasks."""
    x, y = trial.data
    directions = torch.linalg.lstsq(x, y).solution
    unit = directions / directions.norm(dim=0)
    shared = unit @ shares.sqrt()
    with torch.no_grad():
        trial.model[0].weight.copy_(shared[None])
        for head, found in zip(trial.model[1], (x @ shared) @ y / len(x), strict=True):
            head.weight.fill_(found)


def test_the_balanced_point_exists_and_the_metric_is_a_third_there():
    trial = start_trial(linear_shared(), 0)
    set_direction(trial, torch.full((3,), 1 / 3))
    assert trial.evaluate()[WORST] == pytest.approx(1 / 3, abs=0.08)


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 1.2, 1), (0.5, 1, 1.5)])
def test_no_static_weights_prefer_it_to_one_task_alone(weights):
    trial = start_trial(linear_shared(), 0)

    def weighted(shares):
        set_direction(trial, torch.tensor(shares))
        losses = trial.compute_losses(*trial.data).values()
        return sum(weight * float(loss.detach()) for weight, loss in zip(weights, losses))  # noqa: B905

    third = weighted([1 / 3] * 3)
    assert min(weighted(row) for row in torch.eye(3).tolist()) < third + 0.05
