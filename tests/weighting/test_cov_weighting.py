from __future__ import annotations

import pytest
import torch

from equipoise.weighting.cov_weighting import CoVWeighting
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("cov_weighting__*"))
def test_weights_and_statistics_follow_the_authors_code(name):
    golden = load(name)
    given = golden.hyperparameters
    decay = given["mean_decay_param"] if given["mean_sort"] == "decay" else None
    balancer = CoVWeighting(given["T"], decay=decay)
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")
        assert_matches(golden, balancer.mean_losses, step["state"]["mean_L"], f"step {index}")
        assert_matches(golden, balancer.mean_ratios, step["state"]["mean_l"], f"step {index}")
        assert_matches(golden, balancer.deviations, step["state"]["std_l"], f"step {index}")


def test_weights_are_coefficients_of_variation_of_all_past_ratios():
    balancer = CoVWeighting(3)
    losses = torch.rand(12, 3, dtype=torch.float64) + 0.1
    for values in losses:
        weights = balancer.weigh(values)
    ratios = [torch.ones(3, dtype=torch.float64)]
    ratios += [losses[t] / losses[:t].mean(dim=0) for t in range(1, 11)]
    past = torch.stack(ratios)
    variations = (past.var(dim=0, correction=0) + 1e-8).sqrt() / past.mean(dim=0)
    torch.testing.assert_close(weights, variations / variations.sum())


def test_scaling_a_loss_changes_no_weight():
    plain, scaled = CoVWeighting(2), CoVWeighting(2)
    for _ in range(6):
        values = torch.rand(2, dtype=torch.float64) + 0.1
        expected = plain.weigh(values)
        torch.testing.assert_close(scaled.weigh(values * torch.tensor([1e3, 1.0])), expected)


def test_weights_wait_for_a_loss_that_came_late():
    balancer = CoVWeighting(["a", "b"])
    a, b = (torch.tensor(value, requires_grad=True) for value in (2.0, 1.0))
    for factor in (1.0, 1.5, 2.0):
        balancer({"a": factor * a})
    balancer({"a": a, "b": b})
    assert balancer.weights == {"a": 0.5, "b": 0.5}


def test_losses_that_are_always_zero_keep_equal_weights():
    balancer = CoVWeighting(2)
    for _ in range(4):
        weights = balancer.weigh(torch.zeros(2))
    assert weights.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"it must lie in \[0, 1\)"):
        CoVWeighting(2, decay=decay)
